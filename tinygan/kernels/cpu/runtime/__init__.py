"""What all kernels on the CPU build on.

    loading     imports the compiled kernels when they are first needed
    compiling   compiles kernels with Numba, and caches them
    processor   the processor that they are compiled for
    pool        runs the parts of a kernel on all cores
    arguments   the arguments of a kernel, by name
    arrays      addresses of arrays, and arrays at addresses
    shares      which elements a part computes
    workspace   memory that is reused
    simd        vector instructions as functions for kernels
    registers   innermost loops written in vector instructions
"""
