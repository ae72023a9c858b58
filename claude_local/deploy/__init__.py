"""The controller's side, and the only package that imports pyinfra. Nothing outside it imports it.

It is never copied to the workstation.
"""
