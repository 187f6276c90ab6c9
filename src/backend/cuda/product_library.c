#include "backend/cuda/product_library.h"

#if WORKER_ORCD_CUBLAS
#include "backend/cuda/cublas.h"

const ProductLibrary *const product_library = &cublas_library;
#else
const ProductLibrary *const product_library = NULL;
#endif
