"""Model profiles, and the model files on the workstation.

* the profiles: profiles.py parses models.conf with profile.py, profile_flags.py and sources.py; lock.py is models.lock
* the choice: choice.py walks from the profiles to those for a machine; fit.py judges one with memory.py (what a model
  needs), architecture.py (its shape), capacity.py (what the machine has) and devices.py (flags that name GPUs)
* the files: placement.py places what placement_plan.py lists, with search.py, index.py (models.json), download.py,
  part.py, wheels.py and run_lock.py; placement_check.py and stored.py report; gguf.py and shapes.py read headers
"""
