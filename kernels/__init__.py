"""GPU kernels of deepaudio, each beside its plain JAX reference.

Import this package as `deepaudio.kernels`. The folder stands at the top of the checkout, and
`deepaudio/kernels` is a symbolic link to it; installed packages hold real files there.
"""
