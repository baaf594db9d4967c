"""What all kernels on the CPU build on.

    loading     imports the compiled kernels when they are first needed
    compiling   compiles kernels with Numba, and caches them
    processor   the processor that they are compiled for
    pool        runs the parts of a kernel on all cores
    arguments   the arguments of a kernel, by name
    arrays      addresses of arrays, and arrays at addresses
    shares      which elements a part computes
    workspace   memory that is reused
    feeding     arguments that the host decides anew in every step
    recorded    arrays that tell a recorder what is done with them
    program     a step as a list of kernels, to be run again
    lowering    which functions of NumPy are kernels of a program
    elementwise these kernels
    host        the CPU as the device of a capture
    namespace   NumPy's functions, of which a recorder is told
    simd        vector instructions as functions for kernels
    registers   innermost loops written in vector instructions
"""
