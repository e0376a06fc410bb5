// Persistent-cluster kernel, backward: the cluster of cluster_forward.cu, from the last step to the first. A block keeps the
// gradients of its own gate rows; its contribution to dh of every unit goes, in float32, to the block that owns the unit (a
// reduce-scatter whose order of summation is fixed). Contract, order of k and derivation: docs/cuda.md.
//
// Compile-time: STORAGE, HIDDEN (padded H), CLUSTER, TILES (groups of columns that share a product), PAIRS (of columns, the
// most of a tile), RESIDENT (fragments a warp keeps in registers; the rest of its weights lie in shared memory), THREADS,
// SHARED_BYTES.
#include "storage.cuh"

using S = Stored<STORAGE>;
using Value = S::Value;
using Gates = S::Gates;

constexpr int UNITS = HIDDEN / CLUSTER;                             // of one block
constexpr int WARPS = THREADS / 32;
constexpr int SHARERS = WARPS > CLUSTER ? WARPS / CLUSTER : 1;      // warps that share the rows of one destination
constexpr int DESTINATIONS = WARPS > CLUSTER ? 1 : CLUSTER / WARPS; // blocks that one warp sends to
constexpr int ROW_TILES = UNITS / 16 / SHARERS;                     // of one warp and destination: 16 units each
constexpr int GROUP_UNITS = 4 * S::PER_WORD;                        // whose four gates are two k-tiles, 16 bytes a lane
constexpr int GROUPS = UNITS / GROUP_UNITS;
constexpr int FRAGMENTS = DESTINATIONS * ROW_TILES * GROUPS;        // of one warp: a row tile of a group, 8 registers a lane
constexpr int TAIL_FRAGMENTS = FRAGMENTS - RESIDENT;
constexpr int ITEMS = (UNITS * 2 * PAIRS + THREADS - 1) / THREADS;  // (unit, column) pairs of one thread and tile, at most
constexpr int SLOTS = 4;                                            // steps of gates, cells and grad_y in shared memory
constexpr int VALUE_BYTES = sizeof(Value);
constexpr int COLUMN_PIECES = UNITS * (5 * VALUE_BYTES + 4) / 16;   // of 16 bytes, a column and step
constexpr int PIECES = (TILES * 2 * PAIRS * COLUMN_PIECES + THREADS - 1) / THREADS;  // of one thread, at most

constexpr unsigned TILE_BYTES = 8 * PAIRS * 16;  // the sums of a row tile: 16 bytes are two units × two columns
constexpr unsigned SLICE_BYTES = UNITS / 16 * TILE_BYTES;           // of what one block sends to another
constexpr unsigned PARTIAL_BYTES = CLUSTER * SLICE_BYTES;
constexpr unsigned OPERANDS = TILES * 2 * PARTIAL_BYTES, OPERAND_BYTES = GROUPS * 512;
// A column of the ring: rows i, f, g, o and grad_y of the block's units, then the cell states. Columns start in different banks.
constexpr unsigned ROW_BYTES = UNITS * VALUE_BYTES, CELLS = 5 * ROW_BYTES, COLUMN_BYTES = CELLS + UNITS * 4 + 16;
constexpr unsigned RING = OPERANDS + 2 * OPERAND_BYTES, SLOT_BYTES = TILES * 2 * PAIRS * COLUMN_BYTES;
constexpr unsigned STATES = RING + SLOTS * SLOT_BYTES;              // of several tiles; that of one lies in registers
constexpr unsigned TAIL = STATES + (TILES > 1 ? TILES * ITEMS * THREADS * 16 : 0);
constexpr unsigned BARRIERS = TAIL + WARPS * TAIL_FRAGMENTS * 1024;
static_assert(SHARED_BYTES == BARRIERS + 16 * TILES, "the plan and the kernel disagree about shared memory");
static_assert(UNITS % 16 == 0 && SHARERS * ROW_TILES * 16 == UNITS && DESTINATIONS * WARPS == CLUSTER * SHARERS);
static_assert(0 <= RESIDENT && TAIL_FRAGMENTS >= 0 && 1 <= PAIRS && PAIRS <= 4);

struct Direction {
    const Value* weights;     // [4][H][pitch]: W_hh as the framework keeps it; pitch is even
    const Value* gates;       // [T][B][4][H], after their nonlinearities, or before them where `recompute`
    const float* cells;       // [T][B][H]
    const float* c0;          // [B][H]; null: zeros
    const Value* grad_y;      // [T][B][y_stride]
    const float* grad_h_n;    // [B][H]; null: zeros
    const float* grad_c_n;    // [B][H]; null: zeros
    const int* lengths;       // [B]; null: all T
    Value* grad_gates;        // [T][B][4][H], of the preactivations
    float* grad_h0;           // [B][H]
    float* grad_c0;           // [B][H]
    long long reverse;
};
// 16 bytes of every step that one thread copies to the ring, in so many steps.
struct Piece {
    const char* from;
    long long advance;
    unsigned to;
    int steps;
};
struct Arguments {
    Direction directions[2];
    int steps, batch, hidden, y_stride, recompute, columns, pitch;
};

// Of one unit and column. dh: what a sequence that has ended carries past its last step.
struct alignas(16) State {
    float dh, dc, cell;
    int length;
};

// Fragments in registers are spread evenly over all, so that reads of the others are never far apart.
DEVICE constexpr bool is_resident(int f) { return f * RESIDENT / FRAGMENTS != (f + 1) * RESIDENT / FRAGMENTS; }
DEVICE constexpr int place_of(int f) { return is_resident(f) ? f * RESIDENT / FRAGMENTS : f - f * RESIDENT / FRAGMENTS; }
// The fragment at a place of the tail, or in registers.
DEVICE constexpr int fragment_at(bool in_tail, int place) {
    return in_tail ? place * FRAGMENTS / (TAIL_FRAGMENTS > 0 ? TAIL_FRAGMENTS : 1)
                   : ((place + 1) * FRAGMENTS + RESIDENT - 1) / (RESIDENT > 0 ? RESIDENT : 1) - 1;
}

// The 16 bytes of lane `pair` and `column` of a group. Both the lanes that read them and the threads that write them touch
// every bank once, because pairs of columns permute the places of a group.
DEVICE unsigned operand_place(int group, int column, int pair) {
    const int columns = column >> 1;
    return group * 512 + columns * 128 + ((column & 1) * 4 + (pair ^ ((columns & 1) * 2 + (columns >> 1)))) * 16;
}

// Two neighbours of a row as operands, without a branch, so that many loads are in flight: what does not exist is zero.
struct Neighbours {
    Word first, second;
};
DEVICE Neighbours read_neighbours(const Value* weights, unsigned at, bool exists) {
    Neighbours found;
    if constexpr (S::PER_WORD == 2) {
        const Word both = global_read(reinterpret_cast<const Word*>(weights + (exists ? at : 0)));
        found = {both & 0xffffu, both >> 16};
    } else {
        const float2 both = global_read(reinterpret_cast<const float2*>(weights + (exists ? at : 0)));
        found = {S::operand(both.x, 0.0f), S::operand(both.y, 0.0f)};
    }
    return {exists ? found.first : 0, exists ? found.second : 0};
}

DEVICE bool divides(unsigned bytes, const void* at) { return reinterpret_cast<unsigned long long>(at) % bytes == 0; }

KERNEL(lstm_cluster_backward, Arguments) {
    const Direction& d = launch.directions[grid_row()];
    // Through a shuffle, so that the compiler keeps it: it would read it anew in every step, where everything waits for it.
    const int thread = int(shuffle(Word(thread_index()), thread_index() & 31)), lane = thread & 31, warp = thread >> 5;
    const int row = lane >> 2, pair = lane & 3;
    const int rank = cluster_rank(), first_column = cluster_index() * launch.columns;
    const int steps = launch.steps, batch = launch.batch, hidden = launch.hidden;
    const int columns = batch - first_column < launch.columns ? batch - first_column : launch.columns;
    const int width = (launch.columns + TILES - 1) / TILES, pairs = (width + 1) / 2;  // of one tile
    const auto aligned = [&](unsigned bytes) {
        return hidden * VALUE_BYTES % bytes == 0 && launch.y_stride * VALUE_BYTES % bytes == 0 && divides(bytes, d.gates) &&
               divides(bytes, d.cells) && divides(bytes, d.c0) && divides(bytes, d.grad_y) && divides(bytes, d.grad_gates);
    };
    const bool pieces = aligned(16), words = aligned(4);
    const auto time_of = [&](int step) { return d.reverse ? step : steps - 1 - step; };

    // ---- gates, the cell state before and grad_y, SLOTS − 1 steps ahead; all threads together ----
    // Of one column: the value rows, then the cell states, in pieces of so many bytes. Null where there is nothing.
    const auto source = [&](int step, int column, int of_column, int bytes) -> const char* {
        const int values = ROW_BYTES / bytes, r = of_column / values, n = first_column + column, t = time_of(step);
        const long long token = (long long)t * batch + n;
        if (r < 5) {
            const int unit = rank * UNITS + of_column % values * (bytes / VALUE_BYTES);
            if (unit >= hidden) return nullptr;
            const Value* const from = r < 4 ? d.gates + (token * 4 + r) * hidden : d.grad_y + token * launch.y_stride;
            return reinterpret_cast<const char*>(from + unit);
        }
        const int unit = rank * UNITS + (of_column - 5 * values) * (bytes / 4), before = d.reverse ? t + 1 : t - 1;
        if (unit >= hidden || (step + 1 == steps && !d.c0)) return nullptr;
        const float* const from = step + 1 < steps ? d.cells + (long long)before * batch * hidden : d.c0;
        return reinterpret_cast<const char*>(from + (long long)n * hidden + unit);
    };
    // A thread's own pieces of 16 bytes move on by the same number of bytes every step. Cell states end a step early, with c0.
    Piece own[PIECES];
    UNROLL for (int i = 0; i < PIECES; ++i) {
        const int column = (thread + i * THREADS) / COLUMN_PIECES, of_column = (thread + i * THREADS) % COLUMN_PIECES;
        own[i] = {nullptr, 0, RING + column * COLUMN_BYTES + of_column * 16, -1};
        const bool cell = of_column >= int(CELLS / 16);
        if (!pieces || column >= columns || !(own[i].from = source(0, column, of_column, 16))) continue;
        const long long of_step = cell                                  ? 4ll * hidden
                                  : of_column >= int(4 * ROW_BYTES / 16) ? (long long)VALUE_BYTES * launch.y_stride
                                                                        : 4ll * VALUE_BYTES * hidden;
        own[i].advance = (d.reverse ? batch : -batch) * of_step;
        own[i].steps = cell ? steps - 1 : steps;
    }
    const auto fetch = [&](int step) {
        const unsigned slot = step % SLOTS * SLOT_BYTES;
        if (pieces) {
            UNROLL for (int i = 0; i < PIECES; ++i) {
                if (step < own[i].steps) {
                    copy_async(own[i].to + slot, reinterpret_cast<const uint4*>(own[i].from));
                    own[i].from += own[i].advance;
                } else if (step == own[i].steps && step < steps) {
                    const int column = (thread + i * THREADS) / COLUMN_PIECES, of_column = (thread + i * THREADS) % COLUMN_PIECES;
                    if (const char* const from = source(step, column, of_column, 16))
                        copy_async(own[i].to + slot, reinterpret_cast<const uint4*>(from));
                }
            }
        } else if (step < steps) {
            constexpr int WORDS = CELLS / 4 + UNITS;
            for (int i = thread; i < columns * WORDS; i += THREADS) {
                const int column = i / WORDS, word = i % WORDS;
                const unsigned to = RING + slot + column * COLUMN_BYTES + word * 4;
                const char* const from = source(step, column, word, 4);
                if (!from) continue;
                if (words || word >= int(CELLS / 4)) {
                    copy_async(to, reinterpret_cast<const Word*>(from));
                } else if constexpr (S::PER_WORD == 2) {
                    // Too narrow for a copy: loaded here and now.
                    const bool both = rank * UNITS + word % int(ROW_BYTES / 4) * 2 + 1 < hidden;
                    const Value* const two = reinterpret_cast<const Value*>(from);
                    shared_write(to, Word(global_read(two)) | (both ? Word(global_read(two + 1)) << 16 : 0));
                }
            }
        }
        copy_commit();
    };
    for (int step = 0; step < SLOTS - 1; ++step) fetch(step);

    // ---- weights: rows are units of a destination, two neighbours in rows `row` and `row` + 8; k is own units and gates ----
    Word resident[RESIDENT > 0 ? RESIDENT : 1][2][4];
    // A lane reads back only what it wrote itself.
    const unsigned tail = TAIL + warp * TAIL_FRAGMENTS * 1024 + lane * 16;
    const int sharer = warp / CLUSTER;
    const auto destination = [&](int i) { return WARPS > CLUSTER ? warp % CLUSTER : i * WARPS + warp; };  // counted from own
    // The four words of a lane for half `e` of a group.
    const auto read_fragment = [&](int unit, int group, int e, Word (&a)[4]) {
        const auto read = [&](int gate, int own) {
            const int k = rank * UNITS + own;
            return read_neighbours(d.weights, unsigned(gate * hidden + k) * launch.pitch + unit, k < hidden && unit < hidden);
        };
        UNROLL for (int half = 0; half < 2; ++half) {
            if constexpr (S::PER_WORD == 2) {
                const int own = group * 8 + 2 * pair + e;
                const Neighbours low = read(2 * half, own), high = read(2 * half + 1, own);
                a[2 * half] = low.first | high.first << 16, a[2 * half + 1] = low.second | high.second << 16;
            } else {
                const Neighbours both = read(2 * e + half, group * 4 + pair);
                a[2 * half] = both.first, a[2 * half + 1] = both.second;
            }
        }
    };
    // Those of the tail first, since then the registers of the others are free. Two at a time: their loads are in flight
    // together, and the condition lets the compiler begin no more of them than there are registers for.
    UNROLL for (int pass = 0; pass < 2; ++pass)
        UNROLL for (int place = 0; place < (pass ? RESIDENT : TAIL_FRAGMENTS); place += 2) {
            Word a[2][2][4] = {};
            int tile[2], group[2];
            UNROLL for (int j = 0; j < 2; ++j) {
                const int f = fragment_at(!pass, place + j), i = f / GROUPS / ROW_TILES, m = f / GROUPS % ROW_TILES;
                tile[j] = (rank + destination(i)) % CLUSTER * UNITS + (sharer * ROW_TILES + m) * 16, group[j] = f % GROUPS;
            }
            if (tile[0] < hidden || tile[1] < hidden)
                UNROLL for (int j = 0; j < 4; ++j)
                    if (place + j / 2 < (pass ? RESIDENT : TAIL_FRAGMENTS))
                        read_fragment(tile[j / 2] + 2 * row, group[j / 2], j & 1, a[j / 2][j & 1]);
            UNROLL for (int j = 0; j < 4; ++j) {
                const int at = place + j / 2, e = j & 1;
                const Word(&of)[4] = a[j / 2][e];
                if (pass) {
                    UNROLL for (int r = 0; r < 4 && at < RESIDENT; ++r) resident[at < RESIDENT ? at : 0][e][r] = of[r];
                } else if (at < TAIL_FRAGMENTS) {
                    shared_write(tail + (at * 2 + e) * 512, uint4{of[0], of[1], of[2], of[3]});
                }
            }
        }
    // Padded units send nothing, whatever their weights.
    for (int i = thread; i < int(2 * OPERAND_BYTES / 16); i += THREADS) shared_write(OPERANDS + i * 16, uint4{0, 0, 0, 0});

    // ---- items: one (unit, column) of a tile each, in the order in which their sums lie ----
    const auto at_item = [&](int i) { return thread + i * THREADS; };
    const auto unit_of = [&](int i) {
        const int in_tile = at_item(i) % (32 * pairs);
        return at_item(i) / (32 * pairs) * 16 + in_tile / (4 * pairs) * 2 + (in_tile >> 1 & 1);
    };
    const auto column_of = [&](int i) { return at_item(i) / 4 % pairs * 2 + (at_item(i) & 1); };
    int unit[ITEMS], column[ITEMS];
    unsigned sum_at[ITEMS], operand_at[ITEMS];
    State only[ITEMS];
    UNROLL for (int i = 0; i < ITEMS; ++i) {
        unit[i] = unit_of(i), column[i] = column_of(i);
        sum_at[i] = at_item(i) / (32 * pairs) * TILE_BYTES + at_item(i) % (32 * pairs) * 4;
        operand_at[i] = OPERANDS + operand_place(unit[i] / GROUP_UNITS, column[i], unit[i] / S::PER_WORD % 4) +
                        (S::PER_WORD == 2 ? unit[i] % 2 * 8 : 0);
        if (at_item(i) >= UNITS * 2 * pairs || rank * UNITS + unit[i] >= hidden) column[i] = columns;  // has nothing to do
    }
    const auto real = [&](int t, int i) { return column[i] < width && t * width + column[i] < columns; };
    const auto state_of = [&](int t, int i) { return STATES + ((t * ITEMS + i) * THREADS + thread) * 16; };
    for (int t = 0; t < TILES; ++t)
        UNROLL for (int i = 0; i < ITEMS; ++i) {
            if (!real(t, i)) continue;
            const int n = first_column + t * width + column[i];
            const long long at = (long long)n * hidden + rank * UNITS + unit[i];
            const float cell = global_read(d.cells + (long long)time_of(0) * batch * hidden + at);
            only[i] = {d.grad_h_n ? global_read(d.grad_h_n + at) : 0.0f, d.grad_c_n ? global_read(d.grad_c_n + at) : 0.0f, cell,
                       d.lengths ? global_read(d.lengths + n) : steps};
            if (TILES > 1) shared_write(state_of(t, i), only[i]);
        }

    const unsigned expected = CLUSTER * UNITS / 2 * pairs * 16;
    const auto barrier = [&](int t, int buffer) { return BARRIERS + (t * 2 + buffer) * 8; };
    if (thread == 0) {
        for (int b = 0; b < 2 * TILES; ++b) {
            transfer_init(BARRIERS + 8 * b);
            transfer_expect(BARRIERS + 8 * b, expected);
        }
    }
    copy_wait<SLOTS - 2>();
    // Every block has started and armed its barriers before any other sends to it; the first slot is there.
    cluster_barrier();

    // What all blocks sent for a thread's items in `step`.
    const auto receive = [&](int t, int step, float (&sum)[ITEMS]) {
        transfer_wait(barrier(t, step & 1), (step >> 1) & 1);
        if (thread == 0) transfer_expect(barrier(t, step & 1), expected);
        UNROLL for (int i = 0; i < ITEMS; ++i) {
            if (!real(t, i)) continue;
            const unsigned at = (t * 2 + (step & 1)) * PARTIAL_BYTES + sum_at[i];
            float of[2] = {0.0f, 0.0f};
            UNROLL for (int from = 0; from < CLUSTER; ++from) of[from & 1] += shared_read<float>(at + from * SLICE_BYTES);
            sum[i] = of[0] + of[1];
        }
    };
    unsigned peers[DESTINATIONS];
    UNROLL for (int i = 0; i < DESTINATIONS; ++i) peers[i] = peer_address(0, (rank + destination(i)) % CLUSTER);
    const unsigned sent_at = sharer * ROW_TILES * TILE_BYTES + (row * pairs + pair) * 16;
    const unsigned read_at = OPERANDS + operand_place(0, row, pair);

    for (int step = 0; step < steps; ++step) {
        const int time = time_of(step);
        fetch(step + SLOTS - 1);
        ROLLED for (int t = 0; t < TILES; ++t) {
            const int buffer = step & 1, flip = (step * TILES + t) & 1;
            // All that does not need dh comes before the wait.
            LstmDerivatives<Gates4, float> slope[ITEMS];
            float grad_y[ITEMS], sum[ITEMS] = {};
            bool live[ITEMS];
            Gates sent[ITEMS];
            UNROLL for (int i = 0; i < ITEMS; ++i) {
                if (!real(t, i)) continue;
                if (TILES > 1) only[i] = shared_read<State>(state_of(t, i));
                const unsigned from = RING + step % SLOTS * SLOT_BYTES + (t * width + column[i]) * COLUMN_BYTES;
                const auto value = [&](int r) { return S::wide(shared_read<Value>(from + r * ROW_BYTES + unit[i] * VALUE_BYTES)); };
                Gates4 gates{value(0), value(1), value(2), value(3)};
                if (launch.recompute) gates = lstm_activate<S>(gates);
                const float before = step + 1 < steps || d.c0 ? shared_read<float>(from + CELLS + unit[i] * 4) : 0.0f;
                slope[i] = lstm_derivatives<S>(gates, only[i].cell, before);
                only[i].cell = before;
                live[i] = time < only[i].length;
                // Beyond its length y is a constant zero, whatever gradient it is given.
                grad_y[i] = live[i] ? value(4) : 0.0f;
            }
            if (step > 0) receive(t, step - 1, sum);
            UNROLL for (int i = 0; i < ITEMS; ++i) {
                if (!real(t, i)) continue;
                const float into_h = only[i].dh + sum[i] + grad_y[i];
                const auto grad = lstm_gradient(slope[i], into_h, only[i].dc);
                sent[i] = live[i] ? S::gates(grad.preactivations) : Gates{};
                only[i].dh = live[i] ? 0.0f : into_h;
                only[i].dc = live[i] ? grad.c_before : only[i].dc;
                if (TILES > 1) shared_write(state_of(t, i), only[i]);
                shared_write(operand_at[i] + flip * OPERAND_BYTES, S::operands(sent[i]));
            }
            if (t == TILES - 1) copy_wait<SLOTS - 2>();  // the next step's slot, which the barrier shows to all
            // The block's gate gradients are in place. They are double-buffered, so this is the only barrier of a step and tile.
            block_barrier();
            uint4 b[GROUPS];
            UNROLL for (int g = 0; g < GROUPS; ++g) {
                b[g] = uint4{0, 0, 0, 0};
                if (row < width) b[g] = shared_read<uint4>(read_at + flip * OPERAND_BYTES + g * 512);
            }
            UNROLL for (int i = 0; i < DESTINATIONS; ++i) {
                float product[ROW_TILES][2][4] = {};
                UNROLL for (int g = 0; g < GROUPS; ++g)
                    UNROLL for (int m = 0; m < ROW_TILES; ++m) {
                        const int f = (i * ROW_TILES + m) * GROUPS + g;
                        UNROLL for (int e = 0; e < 2; ++e) {
                            const Word low = e ? b[g].z : b[g].x, high = e ? b[g].w : b[g].y;
                            if (is_resident(f)) {
                                S::multiply(product[m][e], resident[is_resident(f) ? place_of(f) : 0][e], low, high);
                            } else {
                                const uint4 a = shared_read<uint4>(tail + (place_of(f) * 2 + e) * 512);
                                S::multiply(product[m][e], {a.x, a.y, a.z, a.w}, low, high);
                            }
                        }
                    }
                const unsigned slice = (t * 2 + buffer) * PARTIAL_BYTES + destination(i) * SLICE_BYTES + sent_at;
                UNROLL for (int m = 0; m < ROW_TILES; ++m) {
                    Word sums[4];
                    UNROLL for (int r = 0; r < 4; ++r) sums[r] = float_to_bits(product[m][0][r] + product[m][1][r]);
                    if (pair < pairs)
                        send(peers[i] + slice + m * TILE_BYTES, peers[i] + barrier(t, buffer), uint4{sums[0], sums[1], sums[2], sums[3]});
                }
            }
            // Nobody waits for these. 16-bit values are collected from the words that hold two gates of a unit.
            if constexpr (S::PER_WORD == 2) {
                UNROLL for (int base = 0; base < UNITS * PAIRS; base += THREADS) {
                    const int gate = (base + thread) & 3, n = (base + thread) / 4 % (2 * PAIRS), g = (base + thread) / 4 / (2 * PAIRS);
                    const int of_cluster = t * width + n, first = rank * UNITS + g * 8;
                    if (g >= GROUPS || n >= width || of_cluster >= columns || first >= hidden) continue;
                    Word eight[4];
                    UNROLL for (int p = 0; p < 4; ++p) {
                        const unsigned from = OPERANDS + flip * OPERAND_BYTES + operand_place(g, n, p) + (gate >> 1) * 4;
                        const Word even = shared_read<Word>(from), odd = shared_read<Word>(from + 8);
                        eight[p] = gate & 1 ? even >> 16 | (odd & 0xffff0000u) : (even & 0xffffu) | odd << 16;
                    }
                    const long long token = (long long)time * batch + first_column + of_cluster;
                    Value* const to = d.grad_gates + (token * 4 + gate) * hidden + first;
                    if (pieces) {
                        global_write(reinterpret_cast<uint4*>(to), uint4{eight[0], eight[1], eight[2], eight[3]});
                    } else {
                        UNROLL for (int u = 0; u < 8; ++u)
                            if (first + u < hidden) global_write(to + u, Value(eight[u / 2] >> u % 2 * 16 & 0xffffu));
                    }
                }
            } else {
                UNROLL for (int i = 0; i < ITEMS; ++i) {
                    if (!real(t, i)) continue;
                    const long long token = (long long)time * batch + first_column + t * width + column[i];
                    S::write_gates(d.grad_gates + token * 4 * hidden + rank * UNITS + unit[i], hidden, sent[i]);
                }
            }
        }
    }
    for (int t = 0; t < TILES; ++t) {
        float sum[ITEMS] = {};
        receive(t, steps - 1, sum);
        UNROLL for (int i = 0; i < ITEMS; ++i) {
            if (!real(t, i)) continue;
            if (TILES > 1) only[i] = shared_read<State>(state_of(t, i));
            const long long at = (long long)(first_column + t * width + column[i]) * hidden + rank * UNITS + unit[i];
            global_write(d.grad_h0 + at, only[i].dh + sum[i]);
            global_write(d.grad_c0 + at, only[i].dc);
        }
    }
}
