// Automata of texts: one of a list, and free text up to a marker: the automaton of Aho and Corasick
// ("Efficient string matching", 1975) over the markers, whose transitions into the end of a marker end the
// text or are left out.
#include "grammar/grammar_internal.h"

enum { TEXT_MARKERS_BYTES_MAX = 4096 };

typedef struct {
    uint32_t n_states, n_classes;
    uint8_t class_of[256];
    uint32_t *next; // [n_states][n_classes]; of a new state DFA_NONE
    uint32_t *fail; // the longest of its proper ends that is a beginning of a marker
    bool *ends;     // a marker ends there
    uint32_t *queue;
} Markers;

static uint32_t markers_count(Markers *m, const Str *markers, uint32_t count) {
    uint64_t states = 1;
    m->n_classes = 1;
    for (uint32_t i = 0; i < count; i++) {
        states += markers[i].len;
        for (size_t k = 0; k < markers[i].len; k++) {
            uint8_t *class = &m->class_of[(uint8_t)markers[i].ptr[k]];
            if (!*class && m->n_classes < 256) *class = (uint8_t)m->n_classes++;
        }
    }
    if (m->n_classes == 256) {
        for (int byte = 0; byte < 256; byte++)
            m->class_of[byte] = (uint8_t)byte;
    }
    return (uint32_t)min_u64(states, UINT32_MAX);
}

static void markers_add(Markers *m, Str marker) {
    uint32_t state = 0;
    for (size_t i = 0; i < marker.len; i++) {
        uint32_t *next = &m->next[state * m->n_classes + m->class_of[(uint8_t)marker.ptr[i]]];
        if (*next == DFA_NONE) *next = m->n_states++;
        state = *next;
    }
    m->ends[state] = true;
}

// Breadth first, so that what a state falls back to is complete. Transitions that no marker has become those
// of the fallback.
static void markers_link(Markers *m) {
    uint32_t n_queue = 0;
    for (uint32_t c = 0; c < m->n_classes; c++) {
        if (m->next[c] == DFA_NONE) m->next[c] = 0;
        else m->queue[n_queue++] = m->next[c];
    }
    for (uint32_t q = 0; q < n_queue; q++) {
        uint32_t state = m->queue[q], fail = m->fail[state];
        m->ends[state] = m->ends[state] || m->ends[fail];
        for (uint32_t c = 0; c < m->n_classes; c++) {
            uint32_t *next = &m->next[state * m->n_classes + c], fallback = m->next[fail * m->n_classes + c];
            if (*next == DFA_NONE) {
                *next = fallback;
            } else {
                m->fail[*next] = fallback;
                m->queue[n_queue++] = *next;
            }
        }
    }
}

// Without a marker a text may end anywhere; otherwise at the first one's end, where nothing goes on.
static void markers_cut(const Markers *m, bool until, uint8_t *accepts) {
    for (uint32_t s = 0; s < m->n_states; s++) {
        accepts[s] = until ? m->ends[s] : !m->ends[s];
        for (uint32_t c = 0; c < m->n_classes; c++) {
            uint32_t *next = &m->next[s * m->n_classes + c];
            if (m->ends[s] || (!until && m->ends[*next])) *next = DFA_NONE;
        }
    }
}

// States behind the end of a marker cannot be reached any more; they go, so that every state leads somewhere.
static bool markers_trim(Markers *m, uint8_t *accepts, Arena *arena, Dfa *out) {
    uint32_t *to = arena_new(arena, uint32_t, m->n_states), n = 1;
    if (!to) return false;
    memset(to, 0xFF, m->n_states * sizeof *to);
    to[0] = 0;
    m->queue[0] = 0;
    for (uint32_t q = 0; q < n; q++) {
        for (uint32_t c = 0; c < m->n_classes; c++) {
            uint32_t next = m->next[m->queue[q] * m->n_classes + c];
            if (next != DFA_NONE && to[next] == UINT32_MAX) to[next] = n, m->queue[n++] = next;
        }
    }
    uint32_t *table = arena_new(arena, uint32_t, (uint64_t)n * m->n_classes);
    uint8_t *kept = arena_new(arena, uint8_t, n);
    if (!table || !kept) return false;
    for (uint32_t q = 0; q < n; q++) {
        kept[q] = accepts[m->queue[q]];
        for (uint32_t c = 0; c < m->n_classes; c++) {
            uint32_t next = m->next[m->queue[q] * m->n_classes + c];
            table[q * m->n_classes + c] = next == DFA_NONE ? DFA_NONE : to[next];
        }
    }
    *out = (Dfa){.n_states = n, .n_classes = m->n_classes, .next = table, .accepts = kept};
    memcpy(out->class_of, m->class_of, sizeof out->class_of);
    return true;
}

// The tree of the texts, without links.
static bool markers_tree(Markers *m, const Str *markers, uint32_t count, uint64_t states, Arena *arena) {
    m->next = arena_new(arena, uint32_t, states * m->n_classes);
    m->fail = arena_new(arena, uint32_t, states);
    m->ends = arena_new(arena, bool, states);
    m->queue = arena_new(arena, uint32_t, states);
    if (!m->next || !m->fail || !m->ends || !m->queue) return false;
    memset(m->next, 0xFF, (size_t)states * m->n_classes * sizeof *m->next);
    for (uint32_t i = 0; i < count; i++)
        markers_add(m, markers[i]);
    return true;
}

bool dfa_from_markers(const Str *markers, uint32_t count, bool until, Arena *arena, Dfa *out, Error *err) {
    Markers m = {.n_states = 1};
    uint32_t states = markers_count(&m, markers, count);
    if (states > TEXT_MARKERS_BYTES_MAX)
        return error_set(err, ERR_TOO_LARGE, "markers have more than %d bytes", TEXT_MARKERS_BYTES_MAX);
    uint8_t *accepts = arena_new(arena, uint8_t, states);
    if (accepts && markers_tree(&m, markers, count, states, arena)) {
        markers_link(&m);
        markers_cut(&m, until, accepts);
        if (markers_trim(&m, accepts, arena, out)) return true;
    }
    return error_set(err, ERR_NO_MEMORY, "no memory for %u markers", count);
}

bool dfa_from_texts(const Str *texts, uint32_t count, Arena *arena, Dfa *out, Error *err) {
    Markers m = {.n_states = 1};
    uint64_t states = markers_count(&m, texts, count);
    if (states > DFA_STATES_MAX || states * m.n_classes > DFA_CELLS_MAX)
        return error_set(err, ERR_TOO_LARGE, "%u texts are too long together", count);
    if (!markers_tree(&m, texts, count, states, arena))
        return error_set(err, ERR_NO_MEMORY, "no memory for %u texts", count);
    *out = (Dfa){.n_states = m.n_states, .n_classes = m.n_classes, .next = m.next};
    out->accepts = (const uint8_t *)m.ends;
    memcpy(out->class_of, m.class_of, sizeof out->class_of);
    return true;
}
