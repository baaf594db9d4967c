"""What the CPU's kernels stand on.

    loading     imports the compiled kernels when they are first needed
    compiling   compiles kernels by Numba, and caches them
    processor   which processor they are compiled for
    pool        runs a kernel's parts on all cores
    arguments   what a kernel is told, by name
    arrays      addresses of arrays, and arrays at addresses
    shares      which elements a part does
    workspace   memory that is used again
    simd        vectors, as kernels use them
    registers   innermost loops in vector instructions
"""
