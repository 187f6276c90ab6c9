// Of attention.cuh: a team and its part of the list; the kernel, where there are no clusters.

// ---- a team's work ----

DEVICE bool is_last_of(const BatchAttentionArgs &a, u8 *shared, u32 meeting, u32 n, u32 total) {
    if (TEAM_WARPS == 1) return is_last_warp_arrival(a.meetings + meeting, n, total);
    return is_last_arrival(a.meetings + meeting, n, total, (u32 *)(shared + LAST_AT));
}

// A list's groups and who folds them.
struct ListGroups {
    u32 first, n;     // groups
    bool whole;       // all of the list is this team's
    float *in_memory; // of the list, where teams share it
    u32 meeting;
};
// begin, end: the team's splits of the list.
DEVICE ListGroups list_groups(const BatchAttentionArgs &a, const ListPlace &p, u32 begin, u32 end, u32 per) {
    ListGroups g;
    u32 first = first_split(p.keys);
    g.first = first / GROUP_SPLITS;
    g.n = (p.end - 1) / GROUP_SPLITS + 1 - g.first;
    g.whole = begin == first && end == p.end;
    u32 shared_list = MAX_ROWS * ROW_LISTS <= ALL_TEAMS ? p.row * ROW_LISTS + p.list : p.base / per;
    g.in_memory = a.partial + ((u64)ALL_TEAMS * GROUP_SPLITS + (u64)shared_list * GROUPS_MAX) * TRIPLE_FLOATS;
    g.meeting = ALL_TEAMS + shared_list;
    return g;
}

// A split's triple t joins its group. The team's splits of the list are [begin, end). Returns whether the
// group is in *group now: else there is more of it to come, or another team folds it.
DEVICE bool join_group(const BatchAttentionArgs &a, u8 *shared, const ListPlace &p, u32 begin, u32 end,
                       u32 per, const WarpTriple &t, WarpTriple *group) {
    u32 list_first = first_split(p.keys), number = p.split / GROUP_SPLITS;
    u32 first = MAX(number * GROUP_SPLITS, list_first), last = MIN((number + 1) * GROUP_SPLITS, p.end);
    bool more = p.split + 1 < MIN(end, last);
    if (begin <= first && end >= last) {
        if (GROUP_IN_REGISTERS) {
            triple_fold(group, t);
        } else {
            accumulate(accumulator(shared, GROUP_AT), t, p.split == first);
            if (!more) load_accumulator(accumulator(shared, GROUP_AT), group);
        }
        return !more;
    }
    u32 starter = (p.base + first - list_first) / per; // the team that begins it
    float *splits = a.partial + (u64)starter * GROUP_SPLITS * TRIPLE_FLOATS;
    store_triple(splits + (p.split - first) * TRIPLE_FLOATS, t, team_warp(), team_warp() == 0);
    u32 n = MIN(end, last) - MAX(begin, first);
    if (more || !is_last_of(a, shared, starter, n, last - first)) return false;
    fold_stored(splits, last - first, group, team_warp());
    return true;
}

// The list's total, of groups that have been stored, n_done of them by this team. Returns whether it is in
// *t. is_last: the team has no other list, so that nothing is on its way to its ring.
DEVICE bool join_total(const BatchAttentionArgs &a, u8 *shared, const ListGroups &g, u32 n_done, bool is_last,
                       WarpTriple *t) {
    if (g.whole) {
        load_accumulator(accumulator(shared, TOTAL_AT), t);
        return true;
    }
    if (n_done == 0 || !is_last_of(a, shared, g.meeting, n_done, g.n)) return false;
    if (FOLDS_IN_RING && is_last) fold_in_ring(shared, g.in_memory, g.n, t);
    else fold_stored(g.in_memory, g.n, t, team_warp());
    return true;
}

// What a team has of the list that it is in: the splits [begin, end), now at place.split.
struct ListWork {
    ListPlace place;
    u32 begin, end;
    u32 n_done;     // groups
    u32 inside_end; // the end of the group that the team is in, if it has all of that; else 0
};
// What is known of a list before its first split, of things that no stage of the step writes.
DEVICE void begin_list(const BatchAttentionArgs &a, const ListPlace &p, TeamWork *w) {
    w->alone = is_alone(a, w->n_rows, p.row);
    w->page = a.rows[p.row].pages[a.list_at + p.keys.position / KV_PAGE];
}
// Enters the list at `place`, of which the team has as much as there is or as it has left.
DEVICE void enter_list(const BatchAttentionArgs &a, ListWork *l, TeamWork *w) {
    const ListPlace &p = l->place;
    l->begin = p.split;
    l->end = p.split + MIN(w->left, p.end - p.split);
    w->left -= l->end - l->begin;
    l->n_done = 0;
    w->keeps = !IN_PARTS && l->end == p.end;
    begin_list(a, p, w);
}

// Where the next split is the first that the team has of a group. *group: no split yet.
DEVICE void enter_group(ListWork *l, WarpTriple *group) {
    const ListPlace &p = l->place;
    u32 first = p.split / GROUP_SPLITS * GROUP_SPLITS, last = MIN(first + GROUP_SPLITS, p.end);
    first = MAX(first, first_split(p.keys));
    l->inside_end = l->begin <= first && l->end >= last ? last : 0;
    if (GROUP_IN_REGISTERS) triple_clear(group);
}
// What is done after most splits: where more of the group follows, of which the team has all, the split's
// triple is folded. Returns false where end_split is needed.
DEVICE bool stay_in_group(ListWork *l, const WarpTriple &t, WarpTriple *group) {
    if (!GROUP_IN_REGISTERS || l->place.split + 1 >= l->inside_end) return false;
    triple_fold(group, t);
    l->place.split++;
    return true;
}

// After a split, whose triple is in *t: it joins its list, and where that is the list's last, the result is
// stored. Returns false where there is no more to do, else goes to the next split.
DEVICE bool end_split(const BatchAttentionArgs &a, u8 *shared, ListWork *l, TeamWork *w, WarpTriple *t,
                      WarpTriple *group) {
    if (!GROUP_IN_REGISTERS) group = t;
    const ListPlace &p = l->place;
    ListGroups g = list_groups(a, p, l->begin, l->end, w->per); // each time, since registers are few
    bool is_there = first_split(p.keys) + 1 == p.end;
    if (is_there) {
        *group = *t;
    } else if (join_group(a, shared, p, l->begin, l->end, w->per, *t, group)) {
        u32 number = p.split / GROUP_SPLITS - g.first;
        l->n_done++;
        if (g.n == 1) is_there = true;
        else if (g.whole) accumulate(accumulator(shared, TOTAL_AT), *group, number == 0);
        else store_triple(g.in_memory + (u64)number * TRIPLE_FLOATS, *group, team_warp(), team_warp() == 0);
    }
    if (++l->place.split < l->end) {
        enter_group(l, group);
        return true;
    }
    if (g.n > 1) is_there = join_total(a, shared, g, l->n_done, w->left == 0, group);
    if (is_there) store_result(a, p, group, team_warp());
    if (w->left == 0) return false;
    next_list(a, &l->place);
    enter_list(a, l, w);
    enter_group(l, group);
    return true;
}

// What the team needs that no stage writes: on its way before stage_wait. Rows of queries past the list's
// heads are zeros.
DEVICE void team_begin(const BatchAttentionArgs &a, u8 *shared) {
    for (u32 i = team_thread(); i < QUERY_PIECE_BYTES / 16; i += TEAM_THREADS) {
        ((uint4 *)(shared + QUERIES_AT))[i] = {0, 0, 0, 0};
    }
#if defined(HEAD_NORMS) && !defined(NORM_PLAIN)
    if (team_thread() * 32 < 2 * HEAD_DIM) {
        u32 i = team_thread() * 32;
        if (i < HEAD_DIM) prefetch_l2(a.norm[0] + i);
        else if (OWN_ENTRIES) prefetch_l2(a.norm[1] + i - HEAD_DIM);
    }
#endif
#ifdef HAS_SINKS
    if (team_thread() * 32 < N_HEADS) prefetch_l2(a.sinks + team_thread() * 32);
#endif
    (void)a;
    ring_begin(shared);
}

// Team `team` of n_teams: its part of the list, and its fetches. False: none.
DEVICE bool find_work(const BatchAttentionArgs &a, u32 n_rows, u32 team, u32 n_teams, ListWork *l,
                      TeamWork *w, Fetches *f) {
    u32 n_splits = count_pieces<SPLIT_KEYS>(a, n_rows);
    *w = {CEIL_DIV(n_splits, n_teams), 0, n_rows, 0, 0, true, false, 0, false, {}};
    u32 at = team * w->per, left = n_splits - at;
    RowKeys row = row_keys(a.rows[0].position);
    u32 n_parts = n_teams / ROW_LISTS; // of the list of one row
    if (MAX_ROWS == 1 && n_parts > 0 && longest_part(row, n_parts) <= w->per + SHARING_SPLITS) {
        if (team >= n_parts * ROW_LISTS) return false;
        ListPart part = list_part(row, team % n_parts, n_parts);
        at = team / n_parts * (row_end_split(row) - first_split(row)) + part.first - first_split(row);
        left = part.end > part.first ? part.end - part.first : 0;
    } else {
        if (at >= n_splits) return false;
        left = MIN(w->per, left);
    }
    if (left == 0) return false;
    w->left = left;
    l->place = find_place<SPLIT_KEYS>(a, n_rows, at);
    fetches_begin(a, l->place, w->left, 1, f);
    return true;
}

DEVICE void attention_run(const BatchAttentionArgs &a, u32 team, u8 *shared) {
    ListWork l;
    TeamWork w;
    Fetches f;
    if (!find_work(a, a.batch->n_rows, team, ALL_TEAMS, &l, &w, &f)) return;
    team_begin(a, shared);
    fill_ring(a, shared, 0, &f);
    enter_list(a, &l, &w);
    stage_wait();
    WarpTriple t, group;
    enter_group(&l, &group);
    do {
        attend_split(a, shared, l.place, l.place.split == l.begin, &f, &w, &t);
    } while (stay_in_group(&l, t, &group) || end_split(a, shared, &l, &w, &t, &group));
    copy_tile_wait<0>();
}

#ifndef CLUSTERS // attention_clusters.cuh
EXPORTED StageInfo attention_info = {ATTEND_THREADS, {BLOCKS, 1}, ATTENTION_SHARED_BYTES};

KERNEL(ATTEND_THREADS, BLOCKS_PER_SM) attention(BatchAttentionArgs a) {
    stage_launch_next();
    u32 team = TEAM_WARPS == 1 ? warp_index() : 0;
    attention_run(a, block_index() * TEAMS + team, shared_memory() + team * TEAM_BYTES);
}
#endif
