// Streaming: `tokens` steps of a whole stack of layers in one launch, for few columns. One cluster of CLUSTER blocks carries
// COLUMNS columns of the batch; clusters share nothing. Weights are read from L2 once a token, every h lies in the shared
// memory of every block. Contract and derivation: docs/cuda.md.
//
// Compile-time: STORAGE (a type of exact.cuh), CLUSTER, COLUMNS, THREADS, SHARED_BYTES (at least what the sizes need).
#include "exact.cuh"

using S = Exact<STORAGE>;
using Value = S::Value;
using Four = Quad<float>;

constexpr int PER = 16 / sizeof(Value);  // values a lane reads at once
constexpr int WARPS = THREADS / 32;
constexpr int CELLS = 4 * COLUMNS;       // of the 4 units that a warp computes at a time
constexpr int SUMS = 4 * CELLS;          // [unit][column][gate]
constexpr int LEFT = SUMS > 32 ? SUMS / 32 : 1;  // sums a lane holds after the reduction
constexpr unsigned STATE = 16;           // after two transfer barriers
static_assert(COLUMNS == 1 || COLUMNS == 2 || COLUMNS == 4);

struct Arguments {
    const uint4* weights;  // by layer [quads][chunks / 32][4 units][4 gates][32]: W_ih, then W_hh, each padded to PER
    const Four* bias;      // [L][4 · quads]
    const Value* x;        // [tokens][B][I]
    Value* h;              // [L][B][H], in place
    float* c;              // [L][B][H], in place
    Value* y;              // [tokens][B][H]
    int tokens, batch, inputs, hidden, layers, quads;
};

DEVICE int chunks(int values) { return (values + PER - 1) / PER; }

// Every exchange halves how many sums a lane holds: the upper lanes keep the upper half of them. Sizes are constants of the
// compiler, which would else keep the sums in local memory.
template <int MASK, int COUNT> DEVICE void add_lanes(float (&sum)[SUMS], int lane) {
    const bool upper = lane & MASK;
    if constexpr (COUNT == 1) sum[0] += shuffle_xor(sum[0], MASK);
    UNROLL for (int i = 0; i < COUNT / 2; ++i) {
        const float given = upper ? sum[i] : sum[i + COUNT / 2], kept = upper ? sum[i + COUNT / 2] : sum[i];
        sum[i] = kept + shuffle_xor(given, MASK);
    }
    if constexpr (MASK > 1) add_lanes<MASK / 2, (COUNT > 1 ? COUNT / 2 : 1)>(sum, lane);
}

KERNEL(lstm_stream, Arguments) {
    const int thread = thread_index(), lane = thread & 31, warp = thread >> 5;
    const int batch = launch.batch, hidden = launch.hidden, inputs = launch.inputs, layers = launch.layers, quads = launch.quads;
    const int units = 4 * quads;
#if CLUSTER > 1
    const int rank = cluster_rank(), first_column = cluster_index() * COLUMNS;
#else
    const int rank = 0, first_column = grid_column() * COLUMNS;
#endif
    // Where h of a layer and a unit lies: two copies, that of token t in t mod 2.
    const auto h_offset = [&](int layer, int token, int unit) {
        return STATE + ((layer * 2 + (token & 1)) * units + unit) * COLUMNS * unsigned(sizeof(float));
    };

    for (int i = thread; i < layers * units * COLUMNS; i += THREADS) {
        const int n = first_column + i % COLUMNS, unit = i / COLUMNS % units, layer = i / COLUMNS / units;
        float value = 0.0f;
        if (n < batch && unit < hidden) value = S::wide(global_read(launch.h + ((long long)layer * batch + n) * hidden + unit));
        shared_write(h_offset(layer, -1, unit) + i % COLUMNS * unsigned(sizeof(float)), value);
    }
#if CLUSTER > 1
    const unsigned stage_bytes = units * COLUMNS * sizeof(float);
    if (thread == 0) {
        for (int b = 0; b < 2; ++b) {
            transfer_init(8 * b);
            transfer_expect(8 * b, stage_bytes);
        }
    }
    // The h of before is in place in every block, read by all before anyone writes over it in global memory, and every
    // block has armed its barriers before any other sends to it.
    cluster_barrier();
    // A warp that computes nothing would not hold the others back, and might sleep through two phases.
    if (rank + CLUSTER * warp >= quads) return;
#else
    block_barrier();
#endif

    int stage = 0;
    for (int token = 0; token < launch.tokens; ++token) {
        const uint4* weights = launch.weights + lane;
        for (int layer = 0; layer < layers; ++layer, ++stage) {
            const int below = chunks(layer ? hidden : inputs), all = below + chunks(hidden), rounds = (all + 31) / 32;
            for (int quad = rank + CLUSTER * warp; quad < quads; quad += CLUSTER * WARPS) {
                const int cell = lane % CELLS, unit = quad * 4 + cell / COLUMNS, n = first_column + cell % COLUMNS;
                const bool owns = lane < CELLS && n < batch && unit < hidden;
                const long long state = ((long long)layer * batch + n) * hidden + unit;
                float c = owns ? global_read(launch.c + state) : 0.0f;
                const Four bias = global_read(launch.bias + layer * units + unit);

                float sum[SUMS] = {};
                for (int round = 0; round < rounds; ++round) {
                    const int chunk = round * 32 + lane;
                    float in[PER][COLUMNS] = {};
                    if (layer == 0 && chunk < below) {
                        UNROLL for (int k = 0; k < PER; ++k)
                            UNROLL for (int j = 0; j < COLUMNS; ++j) {
                                const int at = chunk * PER + k, column = first_column + j;
                                if (at < inputs && column < batch)
                                    in[k][j] = S::wide(global_read(launch.x + ((long long)token * batch + column) * inputs + at));
                            }
                    } else if (chunk < all) {
                        const bool own = chunk >= below;
                        const unsigned from = h_offset(own ? layer : layer - 1, own ? token - 1 : token, (own ? chunk - below : chunk) * PER);
                        UNROLL for (int k = 0; k < PER * COLUMNS; k += 4) {
                            const Four v = shared_read<Four>(from + k * unsigned(sizeof(float)));
                            in[k / COLUMNS][k % COLUMNS] = v.i, in[(k + 1) / COLUMNS][(k + 1) % COLUMNS] = v.f;
                            in[(k + 2) / COLUMNS][(k + 2) % COLUMNS] = v.g, in[(k + 3) / COLUMNS][(k + 3) % COLUMNS] = v.o;
                        }
                    }
                    UNROLL for (int r = 0; r < 16; ++r) {
                        float w[PER];
                        S::unpack(global_read(weights + (((long long)quad * rounds + round) * 16 + r) * 32), w);
                        UNROLL for (int k = 0; k < PER; ++k)
                            UNROLL for (int j = 0; j < COLUMNS; ++j) sum[(r / 4 * COLUMNS + j) * 4 + r % 4] += w[k] * in[k][j];
                    }
                }

                add_lanes<16, SUMS>(sum, lane);
                float z[4];
                UNROLL for (int gate = 0; gate < 4; ++gate) {
                    const int at = cell * 4 + gate;
                    z[gate] = shuffle(sum[gate % LEFT], SUMS < 32 ? at * (32 / SUMS) : at / LEFT);
                }
                const LstmState<float> after = lstm_forward<S>(lstm_gates<S>({z[0], z[1], z[2], z[3]}, bias), c);
                c = after.c;
                const Value stored = S::narrow(after.h);
                const float h = owns ? S::wide(stored) : 0.0f;
                const unsigned to = h_offset(layer, token, quad * 4);
#if CLUSTER > 1
                const int piece = lane % COLUMNS;
                Word words[4];
                UNROLL for (int i = 0; i < 4; ++i) words[i] = float_to_bits(shuffle(h, piece * 4 + i));
                // Every lane has read what it needs of the copy that this stage's successor may overwrite.
                warp_barrier();
                for (int peer = lane / COLUMNS; peer < CLUSTER; peer += 32 / COLUMNS)
                    send(peer_address(to + piece * 16, peer), peer_address(8 * (stage & 1), peer),
                         uint4{words[0], words[1], words[2], words[3]});
#else
                if (lane < CELLS) shared_write(to + lane * unsigned(sizeof(float)), h);
#endif
                if (owns) {
                    global_write(launch.c + state, c);
                    if (token + 1 == launch.tokens) global_write(launch.h + state, stored);
                    if (layer + 1 == layers) global_write(launch.y + ((long long)token * batch + n) * hidden + unit, stored);
                }
            }
            weights += (long long)quads * rounds * 16 * 32;
#if CLUSTER > 1
            transfer_wait(8 * (stage & 1), (stage >> 1) & 1);
            if (thread == 0) transfer_expect(8 * (stage & 1), stage_bytes);
#else
            block_barrier();
#endif
        }
    }
}
