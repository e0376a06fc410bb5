// Persistent-grid kernel, backward: as grid_forward.cu, from the last step to the first. A block owns units of h: it gathers all
// gate gradients of its columns from L2, multiplies them by its rows of W_hhᵀ, and makes the gate gradients of its own units of
// the step before. Contract and derivation: docs/cuda.md.
//
// Compile-time: as of grid_forward.cu; a group of 16 words of k holds the four gate gradients of 8 units (tf32: of 4).
#include "grid.cuh"

using S = Stored<STORAGE>;
using Value = S::Value;
using Gates = S::Gates;

constexpr int ROW_TILES = UNITS / 16;
constexpr int ITEMS = ROW_TILES * TILES * 4;  // 16 units of 2 columns, one of each a lane
constexpr int TURNS = (ITEMS + WARPS - 1) / WARPS;
constexpr int CHUNKS = DEPTH / AT_ONCE, AHEAD = CHUNKS == 1 ? 1 : 2;
constexpr int CHAINS = ROW_TILES * TILES == 1 ? 4 : ROW_TILES * TILES == 2 ? 2 : 1;
constexpr int COLUMNS = 8 * TILES;
constexpr int UNIT_WORDS = 4 / S::PER_WORD, LANE_UNITS = 4 / UNIT_WORDS, GROUP_UNITS = GROUP_WORDS / UNIT_WORDS;
// A gate gradient has any size, so that none of its bits is free. The four of a unit travel as one word of 64 bits, which takes
// the last bit of the fourth; a tf32 value ends with 13 zeros.
constexpr Word TAG = S::PER_WORD == 2 ? 0x00010000u : 1u;

constexpr unsigned REDUCTION = WARPS * (DEPTH - RESIDENT) * ROW_TILES * 1024;
constexpr unsigned STATE = REDUCTION + BUFFERS * WARPS * ROW_TILES * TILES * 512;
static_assert(SHARED_BYTES == STATE + PHASES * ITEMS * 512, "the plan and the kernel disagree about shared memory");
static_assert(THREADS == 32 * WARPS && UNITS % 16 == 0 && CHUNKS * AT_ONCE == DEPTH && RESIDENT <= DEPTH);

struct Direction {
    const Value* weights;    // [4H][H], as the framework keeps it
    const Value* gates;      // [T][B][4][H], after their nonlinearities, or before them where `recompute`
    const float* cells;      // [T][B][H]
    const float* c0;         // [B][H]; null: zeros
    const Value* grad_y;     // [T][B][y_stride]
    const float* grad_h_n;   // [B][H]; null: zeros
    const float* grad_c_n;   // [B][H]; null: zeros
    const int* lengths;      // [B]; null: all T
    Value* grad_gates;       // [T][B][4][H], of the preactivations
    float* grad_h0;          // [B][H]
    float* grad_c0;          // [B][H]
    Word* exchange;          // [rounds][2][groups][PHASES][WARPS · DEPTH][COLUMNS][16], zero
    int* status;             // [1]
    long long reverse;
};
struct Arguments {
    Direction directions[2];
    int steps, batch, hidden, y_stride, recompute, groups, rounds, columns;  // columns: of a phase, at most COLUMNS
};

struct Saved {
    Value i, f, g, o, grad_y;
    float c, c_before;
};
struct alignas(16) State {
    float grad_h, grad_c;  // what later steps send on past those that were multiplied
    int length, unused;
};

DEVICE bool is_late(uint4 v, Word tag) {
    if constexpr (S::PER_WORD == 2) return ((v.y ^ tag) | (v.w ^ tag)) & TAG;
    else return ((v.x ^ tag) | (v.y ^ tag) | (v.z ^ tag) | (v.w ^ tag)) & TAG;
}
// The last bit of a 16-bit value may stay as it is.
DEVICE uint4 without_tag(uint4 v) {
    if constexpr (S::PER_WORD == 2) return v;
    else return {v.x & ~TAG, v.y & ~TAG, v.z & ~TAG, v.w & ~TAG};
}
DEVICE void publish(Word* to, uint2 v, Word tag) {
    relaxed_write(reinterpret_cast<Pair*>(to), Pair(v.x) | Pair((v.y & ~TAG) | tag) << 32);
}
DEVICE void publish(Word* to, uint4 v, Word tag) {
    const uint4 w = S::operand_words(v);
    relaxed_write(reinterpret_cast<uint4*>(to), uint4{(w.x & ~TAG) | tag, (w.y & ~TAG) | tag, (w.z & ~TAG) | tag, (w.w & ~TAG) | tag});
}
// The words of a lane that has `units` of its units; the others count as come, and as zeros.
DEVICE uint4 read(const Word* from, int units, Word tag) {
    if (units <= 0) return {S::PER_WORD == 2 ? 0 : tag, tag, S::PER_WORD == 2 ? 0 : tag, tag};
    if constexpr (S::PER_WORD == 2) {
        const Pairs v = relaxed_read(reinterpret_cast<const Pairs*>(from));
        const bool both = units > 1;
        return {Word(v.first), Word(v.first >> 32), both ? Word(v.second) : 0, both ? Word(v.second >> 32) : tag};
    } else return relaxed_read(reinterpret_cast<const uint4*>(from));
}

KERNEL(lstm_grid_backward, Arguments) {
    const Direction& d = launch.directions[grid_row()];
    const int thread = thread_index(), lane = thread & 31, warp = thread >> 5, row = lane >> 2, pair = lane & 3;
    const int steps = launch.steps, batch = launch.batch, hidden = launch.hidden, columns = launch.columns;
    const int blocks = (hidden + UNITS - 1) / UNITS, group = grid_column() / blocks;
    const int first_unit = grid_column() % blocks * UNITS;
    const int first_source = warp * DEPTH * GROUP_UNITS + pair * LANE_UNITS;  // of the units whose gate gradients a lane multiplies

    auto weights = [&](int g, int m, int half) {
        const int unit = first_unit + m * 16 + half * 8 + row, from = first_source + g * GROUP_UNITS;
        auto weight = [&](int source, int gate) {
            if (source >= hidden || unit >= hidden) return 0.0f;
            return S::wide(global_read(d.weights + (long long)(gate * hidden + source) * hidden + unit));
        };
        Word words[4];
        UNROLL for (int w = 0; w < 4; ++w) {
            if constexpr (S::PER_WORD == 2)
                words[w] = S::operand(weight(from + w / 2, w % 2 * 2), weight(from + w / 2, w % 2 * 2 + 1));
            else words[w] = S::operand(weight(from, w), 0.0f);
        }
        return uint4{words[0], words[1], words[2], words[3]};
    };
    uint4 resident[RESIDENT > 0 ? RESIDENT : 1][ROW_TILES][2];
    UNROLL for (int g = 0; g < RESIDENT; ++g)
        UNROLL for (int m = 0; m < ROW_TILES; ++m)
            UNROLL for (int half = 0; half < 2; ++half) resident[g][m][half] = weights(g, m, half);
    // A lane reads back only what it wrote itself.
    auto tail = [&](int g, int m, int half) {
        return (((warp * (DEPTH - RESIDENT) + g - RESIDENT) * ROW_TILES + m) * 2 + half) * 512 + lane * 16;
    };
    for (int g = RESIDENT; g < DEPTH; ++g)
        for (int m = 0; m < ROW_TILES; ++m)
            for (int half = 0; half < 2; ++half) shared_write(tail(g, m, half), weights(g, m, half));

    auto item_of = [&](int turn) { return warp + WARPS * turn; };
    auto unit_of = [&](int item) { return first_unit + item / 4 / TILES * 16 + (lane & 15); };
    auto local_of = [&](int item) { return item / 4 % TILES * 8 + item % 4 * 2 + (lane >> 4); };
    auto first_column = [&](int round, int phase) { return ((round * launch.groups + group) * PHASES + phase) * columns; };
    auto is_column = [&](int round, int phase, int local) { return local < columns && first_column(round, phase) + local < batch; };
    auto state_of = [&](int phase, int item) { return STATE + (phase * ITEMS + item) * 512 + lane * 16; };
    auto time_of = [&](int step) { return d.reverse ? step : steps - 1 - step; };
    const long long exchanged = (long long)WARPS * DEPTH * COLUMNS * GROUP_WORDS;  // words of a buffer of a phase
    auto exchange = [&](int round, int step, int phase) {
        return d.exchange + (((long long)(round * 2 + (step & 1)) * launch.groups + group) * PHASES + phase) * exchanged;
    };
    auto place = [&](const Word* buffer, int g, int tile) {
        return buffer + ((warp * DEPTH + g) * COLUMNS + tile * 8 + row) * GROUP_WORDS + pair * 4;
    };
    const int units = hidden - first_source;  // of a lane, from its first on
    bool gave_up = false;

    using Chunk = uint4[AT_ONCE * TILES];
    auto issue = [&](Chunk& v, int chunk, int round, int step, int phase) {
        const Word tag = is_odd_use(step) ? TAG : 0;
        const Word* const buffer = exchange(round, step, phase);
        UNROLL for (int k = 0; k < AT_ONCE; ++k)
            UNROLL for (int tile = 0; tile < TILES; ++tile) {
                const int g = chunk * AT_ONCE + k;
                const bool there = step > 0 && !gave_up && is_column(round, phase, tile * 8 + row);
                v[k * TILES + tile] = read(place(buffer, g, tile), there ? units - g * GROUP_UNITS : 0, tag);
            }
    };
    auto settle = [&](Chunk& v, int chunk, int round, int step, int phase) {
        const Word tag = is_odd_use(step) ? TAG : 0;
        const Word* const buffer = exchange(round, step, phase);
        for (int spins = 0; step > 0 && !gave_up; ++spins) {
            bool late = false;
            UNROLL for (int k = 0; k < AT_ONCE; ++k)
                UNROLL for (int tile = 0; tile < TILES; ++tile) {
                    uint4& words = v[k * TILES + tile];
                    const int g = chunk * AT_ONCE + k;
                    if (is_late(words, tag)) {
                        late = true;
                        words = read(place(buffer, g, tile), units - g * GROUP_UNITS, tag);
                    }
                }
            if (!warp_any(late)) break;
            if (spins == SPIN_LIMIT) {
                gave_up = true;  // and waits for nothing any more: what it computes from here on is NaN
                report(d.status, 1 + grid_column());
            }
        }
        UNROLL for (int i = 0; i < AT_ONCE * TILES; ++i) {
            v[i] = without_tag(v[i]);
            if (gave_up) v[i] = {NOT_A_NUMBER, NOT_A_NUMBER, NOT_A_NUMBER, NOT_A_NUMBER};
        }
    };

    Saved upcoming[TURNS];
    auto fetch = [&](int round, int step, int phase) {
        UNROLL for (int turn = 0; turn < TURNS; ++turn) {
            const int item = item_of(turn), unit = unit_of(item), t = time_of(step);
            upcoming[turn] = Saved{};
            if (item >= ITEMS || unit >= hidden || !is_column(round, phase, local_of(item))) continue;
            const long long n = first_column(round, phase) + local_of(item), token = t * (long long)batch + n;
            const long long before = token + (d.reverse ? batch : -batch);
            const Value* const gates = d.gates + token * 4 * hidden + unit;
            const bool last = step + 1 == steps;
            const float* const c_before = (last ? d.c0 + n * hidden : d.cells + before * hidden) + unit;
            upcoming[turn] = {global_read(gates), global_read(gates + hidden), global_read(gates + 2 * hidden),
                              global_read(gates + 3 * hidden), global_read(d.grad_y + token * launch.y_stride + unit),
                              global_read(d.cells + token * hidden + unit), !last || d.c0 ? global_read(c_before) : 0.0f};
        }
    };

    int buffer = 0;
    for (int round = 0; round < launch.rounds; ++round) {
        for (int phase = 0; phase < PHASES; ++phase)
            UNROLL for (int turn = 0; turn < TURNS; ++turn) {
                const int item = item_of(turn), unit = unit_of(item), n = first_column(round, phase) + local_of(item);
                if (item >= ITEMS) continue;
                State state{};
                if (unit < hidden && is_column(round, phase, local_of(item))) {
                    const long long at = (long long)n * hidden + unit;
                    state.grad_h = d.grad_h_n ? global_read(d.grad_h_n + at) : 0.0f;
                    state.grad_c = d.grad_c_n ? global_read(d.grad_c_n + at) : 0.0f;
                    state.length = d.lengths ? global_read(d.lengths + n) : steps;
                }
                shared_write(state_of(phase, item), state);
            }
        Chunk v[AHEAD];
        fetch(round, 0, 0);
        issue(v[0], 0, round, 0, 0);
        // One step more than there are: the gradient of h0.
        for (int step = 0; step <= steps; ++step) {
            for (int phase = 0; phase < PHASES; ++phase) {
                const int next_phase = phase + 1 < PHASES ? phase + 1 : 0, next_step = phase + 1 < PHASES ? step : step + 1;

                float sum[CHAINS][ROW_TILES][TILES][4] = {};
                UNROLL for (int chunk = 0; chunk < CHUNKS; ++chunk) {
                    if (chunk + 1 < CHUNKS) issue(v[(chunk + 1) % AHEAD], chunk + 1, round, step, phase);
                    settle(v[chunk % AHEAD], chunk, round, step, phase);
                    UNROLL for (int k = 0; k < AT_ONCE; ++k) {
                        const int g = chunk * AT_ONCE + k;
                        UNROLL for (int m = 0; m < ROW_TILES; ++m) {
                            const bool held = g < RESIDENT;
                            const uint4 upper = held ? resident[held ? g : 0][m][0] : shared_read<uint4>(tail(g, m, 0));
                            const uint4 lower = held ? resident[held ? g : 0][m][1] : shared_read<uint4>(tail(g, m, 1));
                            UNROLL for (int tile = 0; tile < TILES; ++tile)
                                multiply_group_of_words<S>(sum[2 * g % CHAINS][m][tile], sum[(2 * g + 1) % CHAINS][m][tile],
                                                           upper, lower, v[chunk % AHEAD][k * TILES + tile]);
                        }
                    }
                }
                // 32 values of a pair of columns, turned by 8 from pair to pair, so that no two lanes meet in a bank.
                auto partial = [&](int from, int tiles, int columns_pair, int second, int unit) {
                    const unsigned tile = (buffer * WARPS + from) * ROW_TILES * TILES + tiles;
                    return REDUCTION + tile * 512 + columns_pair * 128 + ((second * 16 + unit + columns_pair * 8) & 31) * 4;
                };
                UNROLL for (int m = 0; m < ROW_TILES; ++m)
                    UNROLL for (int tile = 0; tile < TILES; ++tile)
                        UNROLL for (int r = 0; r < 4; ++r) {
                            float s = sum[0][m][tile][r];
                            UNROLL for (int chain = 1; chain < CHAINS; ++chain) s += sum[chain][m][tile][r];
                            shared_write(partial(warp, m * TILES + tile, pair, r & 1, row + (r >> 1) * 8), s);
                        }
                // What the next phase multiplies may have come while this one was computed.
                if (PHASES > 1 && next_step <= steps) issue(v[0], 0, round, next_step, next_phase);
                block_barrier();

                UNROLL for (int turn = 0; turn < TURNS; ++turn) {
                    const int item = item_of(turn), unit = unit_of(item), local = local_of(item), t = time_of(step);
                    if (item >= ITEMS) continue;
                    const long long n = first_column(round, phase) + local, of_state = n * hidden + unit;
                    const bool valid = is_column(round, phase, local) && unit < hidden;
                    State state = shared_read<State>(state_of(phase, item));
                    float into_h = state.grad_h;
                    UNROLL for (int from = 0; from < WARPS; ++from)
                        into_h += shared_read<float>(partial(from, item / 4, item % 4, lane >> 4, lane & 15));
                    if (step == steps) {
                        if (!valid) continue;
                        global_write(d.grad_h0 + of_state, into_h);
                        global_write(d.grad_c0 + of_state, state.grad_c);
                        continue;
                    }
                    const Saved& p = upcoming[turn];
                    Gates4 gate{S::wide(p.i), S::wide(p.f), S::wide(p.g), S::wide(p.o)};
                    if (launch.recompute) gate = lstm_activate<S>(gate);
                    const bool live = t < state.length;
                    // Beyond its length y is a constant zero, whatever gradient it is given.
                    if (live) into_h += S::wide(p.grad_y);
                    const LstmGradient<Gates4, float> sent = lstm_backward<S>(gate, p.c, p.c_before, into_h, state.grad_c);
                    const Gates grad = live ? S::gates(sent.preactivations) : Gates{};
                    if (valid) {
                        Word* const to = exchange(round, step + 1, phase) +
                                         (unit / GROUP_UNITS * COLUMNS + local) * GROUP_WORDS + unit % GROUP_UNITS * UNIT_WORDS;
                        publish(to, grad, is_odd_use(step + 1) ? TAG : 0);
                    }
                    // After the exchange: nobody waits for these.
                    shared_write(state_of(phase, item), State{live ? 0.0f : into_h, live ? sent.c_before : state.grad_c, state.length, 0});
                    if (valid) S::write_gates(d.grad_gates + ((t * (long long)batch + n) * 4) * hidden + unit, hidden, grad);
                }
                if (PHASES == 1 && next_step <= steps) issue(v[0], 0, round, next_step, next_phase);
                if (next_step < steps) fetch(round, next_step, next_phase);
                if constexpr (BUFFERS == 1) block_barrier();
                else buffer ^= 1;
            }
        }
    }
}
