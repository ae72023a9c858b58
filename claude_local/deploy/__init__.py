"""The controller's side: the only package that imports pyinfra. Nothing outside it imports it, and it is never copied to the workstation."""
