"""The compiled kernel, which is optional; all else about the package is in pyproject.toml."""

import sysconfig

from setuptools import Extension, setup

LIMITED = not sysconfig.get_config_var("Py_GIL_DISABLED")  # a Python without the lock has no stable interface

setup(
    ext_modules=[
        Extension(
            "defenses.edpsgd._kernel",
            sources=["defenses/edpsgd/_kernel.c"],
            depends=[f"defenses/edpsgd/_{part}.h" for part in ("vector", "noise", "gram", "gemm", "lstm")],
            define_macros=[("Py_LIMITED_API", "0x030B0000")] if LIMITED else [],
            extra_compile_args=["-O3"],
            py_limited_api=LIMITED,  # one wheel for every Python from 3.11 on
            optional=True,  # without a compiler the package is slower, and all there
        )
    ],
    options={"bdist_wheel": {"py_limited_api": "cp311"}} if LIMITED else {},
    exclude_package_data={"": ["*.c", "*.h"]},
)
