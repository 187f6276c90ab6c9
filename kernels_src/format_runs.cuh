// Which format the rows of a unit have, where a product's matrices differ in it: code that is compiled once
// for each format. A unit is UNIT_ROWS rows that are multiplied together (matvec.cuh, prefill_matmul.cuh).
//
//     FORMAT_0 alone           every row
//     FORMAT_1, FORMAT_2       of the units whose projection is 1 and 2: rows.projection(unit)
//     ROW_FORMATS, FORMAT_1    the first half of each unit's rows has FORMAT_0, the other half FORMAT_1
//
// Defines: FORMAT_0, UNIT_ROWS; FORMAT_1, FORMAT_2; ROW_FORMATS.
#if !defined(UNIT_ROWS) || !defined(FORMAT_0)
#error "UNIT_ROWS, FORMAT_0"
#endif
#ifndef FORMAT_1
#define FORMAT_1 FORMAT_0
#endif
#ifndef FORMAT_2
#define FORMAT_2 FORMAT_0
#endif
#if defined(ROW_FORMATS) && UNIT_ROWS % 2
#error "ROW_FORMATS are of two halves"
#endif

// Projections of the same format share one code.
enum : u32 {
    SECOND_FORMAT = FORMAT_1 != FORMAT_0,
    THIRD_FORMAT = FORMAT_2 != FORMAT_0 && FORMAT_2 != FORMAT_1,
    FORMATS = 1 + SECOND_FORMAT + THIRD_FORMAT,
#ifdef ROW_FORMATS
    FORMAT_RUNS = 2, // of a unit
#else
    FORMAT_RUNS = 1,
#endif
};

// Of FORMAT_0 … FORMAT_2 the first that is the unit's.
template <class Rows> DEVICE u32 unit_format(const Rows &rows, u32 unit) {
    if (FORMATS == 1 || FORMAT_RUNS == 2) return 0;
    u32 projection = rows.projection(unit);
    if (projection == 1 || FORMAT_2 == FORMAT_1) return projection > 0 && SECOND_FORMAT;
    return projection == 2 && THIRD_FORMAT ? 2 : 0;
}

// Rows [first, end) of a unit, which have one format.
template <int run_format, u32 run_first, u32 run_end> struct FormatRun {
    static constexpr int format = run_format;
    static constexpr u32 first = run_first, end = run_end;
};

// Calls each(FormatRun) for every run of a unit of that unit_format.
template <class Each> DEVICE void with_format(u32 unit_format, const Each &each) {
#ifdef ROW_FORMATS
    (void)unit_format;
    each(FormatRun<FORMAT_0, 0, UNIT_ROWS / 2>());
    each(FormatRun<FORMAT_1, UNIT_ROWS / 2, UNIT_ROWS>());
#else
    if (FORMATS == 1 || unit_format == 0) each(FormatRun<FORMAT_0, 0, UNIT_ROWS>());
    else if (SECOND_FORMAT && (FORMATS == 2 || unit_format == 1)) each(FormatRun<FORMAT_1, 0, UNIT_ROWS>());
    else if (THIRD_FORMAT) each(FormatRun<FORMAT_2, 0, UNIT_ROWS>());
#endif
}
