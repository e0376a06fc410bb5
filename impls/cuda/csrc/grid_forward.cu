// Persistent-grid kernel, forward: all blocks of a launch together hold W_hh for the whole sequence, in `groups` copies that share the
// batch, and exchange h through L2 once a step. Contract, fragment layout and derivation: docs/cuda.md.
//
// Compile-time: STORAGE, DEPTH (of 16 words of k, of one warp), WARPS (share k), UNITS (of a block), TILES (of 8 columns, of a
// phase), PHASES (parts of a group's columns that take turns), RESIDENT (of a warp's groups in registers; the rest lie in shared
// memory), AT_ONCE (of a warp's groups read at once), BUFFERS (for partial sums), THREADS, SHARED_BYTES.
#include "grid.cuh"

using S = Stored<STORAGE>;
using Value = S::Value;

constexpr int ROW_TILES = UNITS / 4;  // 16 rows are 4 gates of 4 units
constexpr int ITEMS = ROW_TILES * TILES;  // 4 units of 8 columns, one of each a lane
constexpr int TURNS = (ITEMS + WARPS - 1) / WARPS;
constexpr int CHUNKS = DEPTH / AT_ONCE, AHEAD = CHUNKS == 1 ? 1 : 2;
constexpr int CHAINS = ITEMS == 1 ? 4 : ITEMS == 2 ? 2 : 1;  // of dependent products, so that four are under way
constexpr int COLUMNS = 8 * TILES;
constexpr Word TAG = TAG_OF_H<S>;

constexpr unsigned REDUCTION = WARPS * (DEPTH - RESIDENT) * ROW_TILES * 1024;
constexpr unsigned STATE = REDUCTION + BUFFERS * WARPS * ITEMS * 512;
static_assert(SHARED_BYTES == STATE + PHASES * ITEMS * 256, "the plan and the kernel disagree about shared memory");
static_assert(THREADS == 32 * WARPS && UNITS % 4 == 0 && CHUNKS * AT_ONCE == DEPTH && RESIDENT <= DEPTH);

struct Direction {
    const Value* weights;    // [4H][H], as the framework keeps it
    const Value* projected;  // [T][B][4][H]
    const Value* h0;         // [B][H]; null: zeros
    const float* c0;         // [B][H]; null: zeros
    const int* lengths;      // [B]; null: all T
    Value* y;                // [T][B][y_stride]
    Value* gates;            // [T][B][4][H] or null
    float* cells;            // [T][B][H] or null
    Value* h_n;              // [B][H]
    float* c_n;              // [B][H]
    Word* exchange;          // [rounds][2][groups][PHASES][WARPS · DEPTH][COLUMNS][16], zero
    int* status;             // [1]
    long long reverse;
};
struct Arguments {
    Direction directions[2];
    int steps, batch, hidden, y_stride, groups, rounds, columns;  // columns: of a phase, at most COLUMNS
};

struct Four {
    Value i, f, g, o;
};
struct alignas(8) State {
    float c;
    int length;
};

KERNEL(lstm_grid_forward, Arguments) {
    const Direction& d = launch.directions[grid_row()];
    const int thread = thread_index(), lane = thread & 31, warp = thread >> 5, row = lane >> 2, pair = lane & 3;
    const int steps = launch.steps, batch = launch.batch, hidden = launch.hidden, columns = launch.columns;
    const int blocks = (hidden + UNITS - 1) / UNITS, group = grid_column() / blocks;
    const int first_unit = grid_column() % blocks * UNITS;
    const int first_word = warp * DEPTH * GROUP_WORDS + pair * 4;  // of k, of this lane

    auto weights = [&](int g, int m, int half) {
        const int unit = first_unit + m * 4 + (row & 3), gate = (row >> 2) + 2 * half;
        if (unit >= hidden) return uint4{};
        const Value* const of_row = d.weights + (long long)(gate * hidden + unit) * hidden;
        return read_operands<S>(of_row, (first_word + g * GROUP_WORDS) * S::PER_WORD, hidden);
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

    // Of an item a lane computes one unit in one column; of the B-fragments it holds column `row` of each tile.
    auto item_of = [&](int turn) { return warp + WARPS * turn; };
    auto unit_of = [&](int item) { return first_unit + item / TILES * 4 + (lane >> 3); };
    auto local_of = [&](int item) { return item % TILES * 8 + (lane & 7); };
    auto first_column = [&](int round, int phase) { return ((round * launch.groups + group) * PHASES + phase) * columns; };
    auto is_column = [&](int round, int phase, int local) { return local < columns && first_column(round, phase) + local < batch; };
    auto state_of = [&](int phase, int item) { return STATE + (phase * ITEMS + item) * 256 + lane * 8; };
    auto time_of = [&](int step) { return d.reverse ? steps - 1 - step : step; };
    const long long exchanged = (long long)WARPS * DEPTH * COLUMNS * GROUP_WORDS;  // words of a buffer of a phase
    auto exchange = [&](int round, int step, int phase) {
        return d.exchange + (((long long)(round * 2 + (step & 1)) * launch.groups + group) * PHASES + phase) * exchanged;
    };
    // Of a lane's four words of a group all are exchanged or none: the last block writes what is missing of them.
    const int exchanged_units = (blocks * UNITS + 4 * S::PER_WORD - 1) / (4 * S::PER_WORD) * (4 * S::PER_WORD);
    const int groups_there = (exchanged_units / S::PER_WORD - first_word + GROUP_WORDS - 1) / GROUP_WORDS;  // of this lane
    bool gave_up = false;

    auto place = [&](const Word* buffer, int g, int tile) {
        return buffer + ((warp * DEPTH + g) * COLUMNS + tile * 8 + row) * GROUP_WORDS + pair * 4;
    };
    using Chunk = uint4[AT_ONCE * TILES];
    auto issue = [&](Chunk& v, int chunk, int round, int step, int phase) {
        const Word tag = is_odd_use(step) ? TAG : 0;
        const Word* const buffer = exchange(round, step, phase);
        UNROLL for (int k = 0; k < AT_ONCE; ++k)
            UNROLL for (int tile = 0; tile < TILES; ++tile) {
                const int g = chunk * AT_ONCE + k;
                const bool there = g < groups_there && step > 0 && !gave_up && is_column(round, phase, tile * 8 + row);
                uint4& words = v[k * TILES + tile];
                words = {tag, tag, tag, tag};
                if (there) words = relaxed_read(reinterpret_cast<const uint4*>(place(buffer, g, tile)));
            }
    };
    auto settle = [&](Chunk& v, int chunk, int round, int step, int phase) {
        const Word tag = is_odd_use(step) ? TAG : 0;
        const Word* const buffer = exchange(round, step, phase);
        for (int spins = 0; step > 0 && !gave_up; ++spins) {
            bool late = false;
            UNROLL for (int k = 0; k < AT_ONCE; ++k)
                UNROLL for (int tile = 0; tile < TILES; ++tile) {
                    uint4& word = v[k * TILES + tile];
                    const int g = chunk * AT_ONCE + k;
                    if (is_late<S>(word, tag)) {
                        late = true;
                        word = relaxed_read(reinterpret_cast<const uint4*>(place(buffer, g, tile)));
                    }
                }
            if (!warp_any(late)) break;
            if (spins == SPIN_LIMIT) {
                gave_up = true;  // and waits for nothing any more: what it computes from here on is NaN
                report(d.status, 1 + grid_column());
            }
        }
        UNROLL for (int tile = 0; tile < TILES; ++tile) {
            const int local = tile * 8 + row, n = first_column(round, phase) + local;
            const bool valid = is_column(round, phase, local);
            // A sequence starts with h0, which has any size and no tag; in reverse that is at its own last step.
            const bool starts = valid && step == (d.reverse && d.lengths ? steps - global_read(d.lengths + n) : 0);
            UNROLL for (int k = 0; k < AT_ONCE; ++k) {
                uint4& word = v[k * TILES + tile];
                word = without_tags<S>(word);
                const int first = (first_word + (chunk * AT_ONCE + k) * GROUP_WORDS) * S::PER_WORD;
                if (starts) word = d.h0 ? read_operands<S>(d.h0 + (long long)n * hidden, first, hidden) : uint4{};
                if (gave_up) word = {NOT_A_NUMBER, NOT_A_NUMBER, NOT_A_NUMBER, NOT_A_NUMBER};
            }
        }
    };

    Four upcoming[TURNS];
    auto fetch = [&](int round, int step, int phase) {
        UNROLL for (int turn = 0; turn < TURNS; ++turn) {
            const int item = item_of(turn), unit = unit_of(item);
            upcoming[turn] = Four{};
            if (item >= ITEMS || unit >= hidden || !is_column(round, phase, local_of(item))) continue;
            const long long n = first_column(round, phase) + local_of(item), token = time_of(step) * (long long)batch + n;
            const Value* const from = d.projected + token * 4 * hidden + unit;
            upcoming[turn] = {global_read(from), global_read(from + hidden), global_read(from + 2 * hidden),
                              global_read(from + 3 * hidden)};
        }
    };

    int buffer = 0;
    for (int round = 0; round < launch.rounds; ++round) {
        for (int phase = 0; phase < PHASES; ++phase)
            UNROLL for (int turn = 0; turn < TURNS; ++turn) {
                const int item = item_of(turn), unit = unit_of(item), n = first_column(round, phase) + local_of(item);
                if (item >= ITEMS) continue;
                State state{0.0f, 0};
                if (unit < hidden && is_column(round, phase, local_of(item))) {
                    const long long at = (long long)n * hidden + unit;
                    state = {d.c0 ? global_read(d.c0 + at) : 0.0f, d.lengths ? global_read(d.lengths + n) : steps};
                    if (state.length == 0) {
                        global_write(d.h_n + at, d.h0 ? global_read(d.h0 + at) : Value(0));
                        global_write(d.c_n + at, state.c);
                    }
                }
                shared_write(state_of(phase, item), state);
            }
        Chunk v[AHEAD];
        fetch(round, 0, 0);
        issue(v[0], 0, round, 0, 0);
        for (int step = 0; step < steps; ++step) {
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
                auto partial = [&](int from, int item) { return REDUCTION + ((buffer * WARPS + from) * ITEMS + item) * 512; };
                UNROLL for (int m = 0; m < ROW_TILES; ++m)
                    UNROLL for (int tile = 0; tile < TILES; ++tile) {
                        float(&s)[4] = sum[0][m][tile];
                        UNROLL for (int chain = 1; chain < CHAINS; ++chain)
                            UNROLL for (int r = 0; r < 4; ++r) s[r] += sum[chain][m][tile][r];
                        // Rows 0 … 3 are i (then g) of four units, 4 … 7 f (then o); a column's pair lies side by side.
                        shared_write(partial(warp, m * TILES + tile) + lane * 16, float4{s[0], s[2], s[1], s[3]});
                    }
                // What the next phase multiplies may have come while this one was computed.
                if (PHASES > 1 && next_step < steps) issue(v[0], 0, round, next_step, next_phase);
                block_barrier();

                UNROLL for (int turn = 0; turn < TURNS; ++turn) {
                    const int item = item_of(turn), unit = unit_of(item), local = local_of(item), t = time_of(step);
                    if (item >= ITEMS) continue;
                    const long long n = first_column(round, phase) + local;
                    const bool is_there = is_column(round, phase, local), valid = is_there && unit < hidden;
                    const State state = shared_read<State>(state_of(phase, item));
                    Gates4 z{};
                    UNROLL for (int from = 0; from < WARPS; ++from) {
                        const float2 ig = shared_read<float2>(partial(from, item) + lane * 8);
                        const float2 fo = shared_read<float2>(partial(from, item) + 256 + lane * 8);
                        z.i += ig.x, z.g += ig.y, z.f += fo.x, z.o += fo.y;
                    }
                    const Four& p = upcoming[turn];
                    const Gates4 gate = lstm_gates<S, Gates4>(z, {S::wide(p.i), S::wide(p.f), S::wide(p.g), S::wide(p.o)});
                    const LstmState<float> after = lstm_forward<S>(gate, state.c);
                    const bool live = t < state.length;
                    const float c = live ? after.c : state.c, h = live ? S::wide(S::narrow(after.h)) : 0.0f;
                    if (step + 1 < steps) {
                        const Word tag = is_odd_use(step + 1) ? TAG : 0;
                        Word* const to = exchange(round, step + 1, phase);
                        const int word = unit / S::PER_WORD;
                        Word* const at = to + (word / GROUP_WORDS * COLUMNS + local) * GROUP_WORDS + word % GROUP_WORDS;
                        publish_h<S>(at, unit, h, tag, is_there, UNITS % 8 && unit + 4 >= blocks * UNITS && unit + 4 < exchanged_units);
                    }
                    // After the exchange: nobody waits for these.
                    shared_write(state_of(phase, item), State{c, state.length});
                    if (!valid) continue;
                    const long long token = t * (long long)batch + n, of_state = n * hidden + unit;
                    global_write(d.y + token * launch.y_stride + unit, S::narrow(h));
                    if (d.gates) S::write_gates(d.gates + token * 4 * hidden + unit, hidden, S::gates(gate));
                    if (d.cells) global_write(d.cells + token * hidden + unit, c);
                    if (live && t == (d.reverse ? 0 : state.length - 1)) {
                        global_write(d.h_n + of_state, S::narrow(h));
                        global_write(d.c_n + of_state, c);
                    }
                }
                if (PHASES == 1 && next_step < steps) issue(v[0], 0, round, next_step, next_phase);
                if (next_step < steps) fetch(round, next_step, next_phase);
                if constexpr (BUFFERS == 1) block_barrier();
                else buffer ^= 1;
            }
        }
    }
}
