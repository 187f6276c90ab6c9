// What the build writes about itself.
#pragma once

extern const char version_text[]; // as git describes the commit that it was made from, or "unknown"
extern const char version_date[]; // when that commit was made, in UTC: "2026-11-30"; "" without git
