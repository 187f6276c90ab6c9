// The page at "/": a conversation with the model, in one HTML file that is part of the program. Its sources
// are in page/.
//
// It loads nothing. Its Content-Security-Policy names its style and its script by their hashes, so that
// nothing else runs in it, whatever the model writes, and lets it speak to this worker alone. It is open to
// anybody; what it asks the worker for needs a token like anything else.
#pragma once

#include "api/files.h"

enum { API_PAGE_POLICY_BYTES = 512, API_PAGE_HEADERS = 5 };

typedef struct {
    char policy[API_PAGE_POLICY_BYTES];
    HttpHeader headers[API_PAGE_HEADERS];
    ApiFile file; // points into this struct, which must stay where it is
} ApiPage;

void api_page_init(ApiPage *page);
