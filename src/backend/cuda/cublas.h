// cuBLAS. In a build with it alone; product_library.h is how the program sees it.
#pragma once

#include "backend/cuda/product_library.h"

extern const ProductLibrary cublas_library;
