// Streaming over all multiprocessors: `tokens` steps of a whole stack of layers in one launch, for at most 8 columns. A block
// owns UNITS units of every layer. Its weights lie in shared memory, or pass through it as fast as they can be read; h is
// exchanged through L2. Contract, order of the layers and derivation: docs/cuda.md.
//
// Compile-time: STORAGE, UNITS, WARPS (share k), THREADS, SHARED_BYTES (at least what the sizes need).
#include "grid.cuh"

using S = Stored<STORAGE>;
using Value = S::Value;

constexpr int ROW_TILES = UNITS / 4;  // 16 rows are 4 gates of 4 units
constexpr int AT_ONCE = 4;            // groups of k that a warp reads at once
constexpr int CHAINS = ROW_TILES == 1 ? 4 : ROW_TILES == 2 ? 2 : 1;  // of dependent products, so that four are under way
constexpr int COLUMNS = 8;
constexpr int WATCHER = THREADS - 32;  // a thread that computes no gates where there are more warps than row tiles
constexpr int PIECE = ROW_TILES * 64;  // of 16 bytes: what a warp multiplies a group by
constexpr unsigned SUMS = 16;          // after the word that says whether the block gave up
constexpr unsigned STATE = SUMS + 2 * WARPS * ROW_TILES * 512;
static_assert(THREADS == 32 * WARPS && UNITS % 4 == 0);

struct Arguments {
    const uint4* weights;  // [blocks][pieces][ROW_TILES][2][32]: of layer 0 W_ih, W_hh, of each other layer W_hh, W_ih
    const float4* bias;    // [blocks][L][UNITS] of i, f, g, o
    const Value* x;        // [tokens][B][I]
    Value* h;              // [L][B][H], in place
    float* c;              // [L][B][H], in place
    Value* y;              // [tokens][B][H]
    Word* exchange;        // [2][L][2][groups of H][COLUMNS][16]; zeros before the first launch
    int* launches;         // [blocks], how many there were before
    unsigned* arrived;     // [1], blocks that have read h, of all launches
    int* status;           // [1]
    int tokens, batch, inputs, hidden, layers, blocks;
    int slots, ring;  // pieces of a warp that shared memory has room for; where that is not all, `ring` of them pass others
};
struct alignas(8) State {
    float c, h;
};

DEVICE int groups_of(int values) { return (values + GROUP_WORDS * S::PER_WORD - 1) / (GROUP_WORDS * S::PER_WORD); }

// All but the last `pending` groups of this thread's copies have landed, or more.
DEVICE void copy_wait_but(int pending) {
    if (pending >= 16) copy_wait<16>();
    else if (pending >= 8) copy_wait<8>();
    else if (pending >= 5) copy_wait<5>();
    else if (pending >= 3) copy_wait<3>();
    else if (pending == 2) copy_wait<2>();
    else if (pending == 1) copy_wait<1>();
    else copy_wait<0>();
}

KERNEL(lstm_stream_grid, Arguments) {
    const int thread = thread_index(), lane = thread & 31, warp = thread >> 5, row = lane >> 2, pair = lane & 3;
    const int block = grid_column(), first_unit = block * UNITS;
    const int tokens = launch.tokens, batch = launch.batch, hidden = launch.hidden, layers = launch.layers, slots = launch.slots;
    const int x_depth = groups_of(launch.inputs), depth = groups_of(hidden);
    const auto of_warp = [&](int groups) { return (groups - warp + WARPS - 1) / WARPS; };
    const int x_count = of_warp(x_depth), h_count = of_warp(depth);

    // Layer l is at token step − l. Layer −1 is the product of layer 0 with x, which waits for nobody: made a step ahead.
    const int last_step = tokens + layers - 2;
    const auto highest = [&](int step) { return step < layers - 1 ? step : layers - 1; };
    const auto lowest = [&](int step) { return step - tokens + 1 > -1 ? step - tokens + 1 : -1; };
    // Of a warp's groups of a layer: the first h_count are of its own h, the others of the layer below.
    const auto count = [&](int layer) { return layer < 0 ? x_count : layer == 0 ? h_count : 2 * h_count; };
    const auto is_below = [&](int layer, int i) { return layer > 0 && i >= h_count; };
    const auto group_of = [&](int layer, int i) { return warp + WARPS * (is_below(layer, i) ? i - h_count : i); };
    const auto before = [&](int layer, int x, int h) { return layer < 0 ? 0 : x + (layer > 0 ? 2 * layer - 1 : 0) * h; };

    // Weights. Pieces are numbered in the order in which layers begin. A lane reads back only what it copied itself.
    const int total = before(layers, x_count, h_count), kept = total <= slots ? total : slots - launch.ring;
    const uint4* const weights = launch.weights + (long long)block * before(layers, x_depth, depth) * PIECE + lane;
    const unsigned bias_at = STATE + layers * ROW_TILES * 256, weights_at = bias_at + layers * UNITS * 16;
    const auto slot_at = [&](int slot) { return weights_at + ((warp * slots + slot) * PIECE + lane) * 16u; };
    const auto load = [&](int slot, int layer, int i) {
        const int piece = before(layer, x_depth, depth) + (is_below(layer, i) ? depth : 0) + group_of(layer, i);
        const uint4* const from = weights + (long long)piece * PIECE;
        UNROLL for (int part = 0; part < 2 * ROW_TILES; ++part) copy_async(slot_at(slot) + part * 512u, from + part * 32);
        copy_commit();
    };
    for (int layer = -1, piece = 0; layer < layers; ++layer)
        for (int i = 0; i < count(layer) && piece < kept; ++i, ++piece) load(piece, layer, i);
    // What is not kept passes through the ring in the order of its use, whatever else the block waits for meanwhile.
    int ahead_step = -1, ahead_layer = -1, ahead = kept - 1, loaded = 0, used = 0, load_slot = kept, use_slot = kept;
    const auto load_ahead = [&] {
        if (kept == total) return;
        ++ahead;
        while (ahead_step <= last_step && ahead >= count(ahead_layer)) {
            if (--ahead_layer < lowest(ahead_step)) ahead_layer = highest(++ahead_step);
            const int kept_here = kept - before(ahead_layer, x_count, h_count);
            ahead = kept_here > 0 ? kept_here : 0;
        }
        if (ahead_step > last_step) return;
        load(load_slot, ahead_layer, ahead);
        ++loaded;
        if (++load_slot == slots) load_slot = kept;
    };
    for (int i = 0; i < launch.ring; ++i) load_ahead();

    // The launches take turns with two areas of the exchange; each leaves zeros in the other.
    const int turn = global_read(launch.launches + block) & 1;
    const long long buffer_words = (long long)depth * COLUMNS * GROUP_WORDS, area_words = 2 * layers * buffer_words;
    const auto exchange = [&](int layer, int token) {
        return launch.exchange + turn * area_words + (layer * 2 + (token & 1)) * buffer_words;
    };
    uint4* const other_area = reinterpret_cast<uint4*>(launch.exchange + (turn ^ 1) * area_words);
    for (long long i = block * THREADS + thread; i < area_words / 4; i += launch.blocks * THREADS)
        global_write(other_area + i, uint4{});
    const auto place = [&](int layer, int token, int group) {
        return reinterpret_cast<const uint4*>(exchange(layer, token) + (group * COLUMNS + row) * GROUP_WORDS + pair * 4);
    };
    const auto tag_of = [&](int token) { return is_odd_use(token + 1) ? TAG_OF_H<S> : 0; };

    // Of an item, 4 units, a lane computes one unit in one column.
    const auto state_at = [&](int layer, int item) { return STATE + (layer * ROW_TILES + item) * 256 + lane * 8; };
    const int column = lane & 7;
    const auto each_state = [&](auto act) {
        for (int layer = 0; layer < layers; ++layer)
            for (int item = warp; item < ROW_TILES; item += WARPS) {
                const int unit = first_unit + item * 4 + (lane >> 3);
                act(state_at(layer, item), unit < hidden && column < batch, ((long long)layer * batch + column) * hidden + unit);
            }
    };
    each_state([&](unsigned at, bool valid, long long from) {
        shared_write(at, State{valid ? global_read(launch.c + from) : 0.0f, 0.0f});
    });
    for (int i = thread; i < layers * UNITS; i += THREADS)
        shared_write(bias_at + i * 16, global_read(launch.bias + block * layers * UNITS + i));

    bool gave_up = false;
    struct Source {
        int layer, token, group;
        bool is_awaited;  // by this lane
    };
    const auto source = [&](int layer, int token, int i) {
        const bool below = is_below(layer, i);
        Source from{below ? layer - 1 : layer, below ? token : token - 1, group_of(layer, i), false};
        // Blocks together have a multiple of 8 units, so that of a lane's four words all are exchanged or none.
        const bool is_there = from.group * GROUP_WORDS + pair * 4 < launch.blocks * UNITS / S::PER_WORD;
        from.is_awaited = layer >= 0 && from.token >= 0 && i < count(layer) && row < batch && is_there;
        return from;
    };
    using Words = uint4[AT_ONCE];
    const auto issue = [&](Words& v, int layer, int token, int first) {
        UNROLL for (int k = 0; k < AT_ONCE; ++k) {
            const Source from = source(layer, token, first + k);
            v[k] = uint4{};
            if (from.is_awaited) v[k] = relaxed_read(place(from.layer, from.token, from.group));
            else if (first + k < count(layer) && row < batch && (layer < 0 || from.token < 0)) {
                // x, and what h was before the launch, which has any size and no tag.
                const int width = layer < 0 ? launch.inputs : hidden, start = from.group * GROUP_WORDS + pair * 4;
                const Value* const rows = layer < 0 ? launch.x + (long long)token * batch * width
                                                    : launch.h + (long long)from.layer * batch * width;
                v[k] = read_operands<S>(rows + (long long)row * width, start * S::PER_WORD, width);
            }
        }
    };
    const auto settle = [&](Words& v, int layer, int token, int first) {
        for (int spins = 0; layer >= 0 && !gave_up; ++spins) {
            bool late = false;
            UNROLL for (int k = 0; k < AT_ONCE; ++k) {
                const Source from = source(layer, token, first + k);
                if (from.is_awaited && is_late<S>(v[k], tag_of(from.token))) {
                    late = true;
                    v[k] = relaxed_read(place(from.layer, from.token, from.group));
                }
            }
            if (!warp_any(late)) break;
            if (spins == SPIN_LIMIT) {
                gave_up = true;  // and waits for nothing any more: what it computes from here on is NaN
                report(launch.status, 1 + block);
            }
        }
        UNROLL for (int k = 0; k < AT_ONCE; ++k) {
            if (source(layer, token, first + k).is_awaited) v[k] = without_tags<S>(v[k]);
            if (gave_up) v[k] = {NOT_A_NUMBER, NOT_A_NUMBER, NOT_A_NUMBER, NOT_A_NUMBER};
        }
    };

    Words v, upcoming = {};
    using Sums = float[CHAINS][ROW_TILES][4];
    Sums of_x = {};
    int buffer = 0;
    for (int step = -1; step <= last_step; ++step)
        // The upper layers first: a block that publishes h of a layer has then read all of its h before, the layer above too.
        for (int layer = highest(step); layer >= lowest(step); --layer) {
            const int token = step - layer, groups = count(layer);
            Sums sum;
            UNROLL for (int i = 0; i < CHAINS * ROW_TILES * 4; ++i) (&sum[0][0][0])[i] = layer == 0 ? (&of_x[0][0][0])[i] : 0.0f;
            const bool same_step = layer > lowest(step);
            const int next_step = same_step ? step : step + 1, next_layer = same_step ? layer - 1 : highest(next_step);
            const int next_first = next_step <= last_step ? 0 : 2 * h_count;  // that is none
            for (int first = step < 0 ? -AT_ONCE : 0; first <= 0 || first < groups; first += AT_ONCE) {
                UNROLL for (int k = 0; k < AT_ONCE; ++k) v[k] = upcoming[k];
                // What is multiplied next may have come while this is computed; x has.
                const bool goes_on = first < 0 || first + AT_ONCE < groups;
                issue(upcoming, goes_on ? layer : next_layer, goes_on ? token : next_step - next_layer,
                      goes_on ? first + AT_ONCE : next_first);
                if (first < 0) continue;
                settle(v, layer, token, first);
                UNROLL for (int k = 0; k < AT_ONCE; ++k) {
                    if (first + k >= groups) continue;
                    const int piece = before(layer, x_count, h_count) + first + k;
                    const bool passes = piece >= kept;
                    copy_wait_but(passes ? loaded - 1 - used : kept + loaded - 1 - piece);
                    const unsigned at = slot_at(passes ? use_slot : piece);
                    UNROLL for (int m = 0; m < ROW_TILES; ++m) {
                        const uint4 upper = shared_read<uint4>(at + m * 1024), lower = shared_read<uint4>(at + m * 1024 + 512);
                        multiply_group_of_words<S>(sum[2 * k % CHAINS][m], sum[(2 * k + 1) % CHAINS][m], upper, lower, v[k]);
                    }
                    if (!passes) continue;
                    ++used;
                    if (++use_slot == slots) use_slot = kept;
                    load_ahead();
                }
            }
            if (layer < 0) {
                UNROLL for (int i = 0; i < CHAINS * ROW_TILES * 4; ++i) (&of_x[0][0][0])[i] = (&sum[0][0][0])[i];
                continue;
            }

            const auto partial = [&](int from, int item) { return SUMS + ((buffer * WARPS + from) * ROW_TILES + item) * 512; };
            UNROLL for (int m = 0; m < ROW_TILES; ++m) {
                float(&s)[4] = sum[0][m];
                UNROLL for (int chain = 1; chain < CHAINS; ++chain)
                    UNROLL for (int r = 0; r < 4; ++r) s[r] += sum[chain][m][r];
                // Rows 0 … 3 are i (then g) of four units, 4 … 7 f (then o); a column's pair lies side by side.
                shared_write(partial(warp, m) + lane * 16, float4{s[0], s[2], s[1], s[3]});
            }
            block_barrier();
            // The last layer is the last to read what its h was before.
            if (thread == WATCHER && token == 0 && layer == layers - 1) counter_release(launch.arrived, 1);
            for (int item = warp; item < ROW_TILES; item += WARPS) {
                const int local = item * 4 + (lane >> 3), unit = first_unit + local;
                Gates4 z{};
                UNROLL for (int from = 0; from < WARPS; ++from) {
                    const float2 ig = shared_read<float2>(partial(from, item) + lane * 8);
                    const float2 fo = shared_read<float2>(partial(from, item) + 256 + lane * 8);
                    z.i += ig.x, z.g += ig.y, z.f += fo.x, z.o += fo.y;
                }
                const float4 bias = shared_read<float4>(bias_at + (layer * UNITS + local) * 16);
                const Gates4 gate = lstm_gates<S, Gates4>(z, {bias.x, bias.y, bias.z, bias.w});
                const LstmState<float> after = lstm_forward<S>(gate, shared_read<State>(state_at(layer, item)).c);
                const Value stored = S::narrow(after.h);
                if (token + 1 < tokens || layer + 1 < layers) {
                    const int word = unit / S::PER_WORD;
                    const int place_of_word = (word / GROUP_WORDS * COLUMNS + column) * GROUP_WORDS + word % GROUP_WORDS;
                    Word* const at = exchange(layer, token) + place_of_word;
                    publish_h<S>(at, unit, S::wide(stored), tag_of(token), column < batch && word < depth * GROUP_WORDS);
                }
                // After the exchange: nobody waits for these.
                shared_write(state_at(layer, item), State{after.c, S::wide(stored)});
                if (layer + 1 == layers && column < batch && unit < hidden)
                    global_write(launch.y + ((long long)token * batch + column) * hidden + unit, stored);
            }
            buffer ^= 1;
        }

    if (thread == WATCHER) {
        const int launched = global_read(launch.launches + block);
        for (int spins = 0; int(counter_acquire(launch.arrived) - unsigned(launched + 1) * launch.blocks) < 0; ++spins)
            if (spins == SPIN_LIMIT) {
                gave_up = true;
                report(launch.status, 1 + block);
                break;
            }
        global_write(launch.launches + block, launched + 1);
        shared_write(0, Word(gave_up));
    }
    block_barrier();
    // Behind this barrier every block has read what h was.
    const bool is_lost = shared_read<Word>(0);
    each_state([&](unsigned at, bool valid, long long to) {
        const State state = is_lost ? State{bits_to_float(NOT_A_NUMBER), bits_to_float(NOT_A_NUMBER)} : shared_read<State>(at);
        if (valid) global_write(launch.c + to, state.c), global_write(launch.h + to, S::narrow(state.h));
    });
}
