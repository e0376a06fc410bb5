// Persistent-cluster kernel, forward: one cluster of CLUSTER blocks runs the whole sequence of up to 8 columns of the batch.
// Contract, order of k and derivation: docs/cuda.md.
//
// Compile-time: STORAGE, HIDDEN (padded H), CLUSTER, ROW_TILES (of a warp), SPLIT (warps that share a product along k), STAGES
// (parts of h that are waited for one after the other), RESIDENT (fragments a warp keeps in registers; the rest of its
// weights lie in shared memory), THREADS, SHARED_BYTES.
#include "storage.cuh"

using S = Stored<STORAGE>;
using Value = S::Value;

constexpr int UNITS = HIDDEN / CLUSTER;          // of one block
constexpr int OCTETS = UNITS / 8;
constexpr int TILES = 2 * OCTETS;                // of 16 rows: i above f, then g above o, of each octet
constexpr int ROW_WARPS = TILES / ROW_TILES;
constexpr int PIECE = 4 * S::PER_WORD;           // units in 16 bytes
constexpr int PIECES = UNITS / PIECE;            // of one block
constexpr int GROUPS = HIDDEN / (4 * PIECE);     // of k: two k-tiles, 16 bytes a lane
constexpr int STAGE_GROUPS = GROUPS / STAGES;
constexpr int OWN = STAGE_GROUPS / SPLIT;        // groups of one warp and stage
constexpr int FRAGMENTS = STAGES * OWN * ROW_TILES;  // of one warp: a row tile of a group, 8 registers a lane
constexpr int TAIL_FRAGMENTS = FRAGMENTS - RESIDENT;
// Products of one chain depend on each other; four chains of a warp hide that.
constexpr int CHAINS = ROW_TILES == 1 ? 4 : ROW_TILES == 2 ? 2 : 1;
constexpr int ITEMS = (UNITS * 8 + THREADS - 1) / THREADS;  // (unit, column) of one thread, at most
constexpr int LANES = PIECE;                     // hold the units of one piece
constexpr int SENDS = (CLUSTER + LANES - 1) / LANES;
constexpr int AHEAD = ROW_TILES > 3 ? 2 : 4;     // groups of h that a warp reads before it multiplies the first
constexpr bool SHORT_OF_REGISTERS = TAIL_FRAGMENTS > 0 || RESIDENT * 8 + 104 > 65536 / THREADS;
constexpr int PLACE_PIECES = 1 + (2 * SENDS + 3) / 4;  // 16 bytes each, of one item
constexpr int SLOTS = 4;                         // steps of the input product in shared memory

constexpr unsigned H_BYTES = HIDDEN / PIECE * 128;
constexpr unsigned SUMS = 2 * H_BYTES, SUM_BYTES = SPLIT * TILES * 512;
constexpr unsigned UNIT_BYTES = 4 / S::PER_WORD;
constexpr unsigned PITCH = UNITS * UNIT_BYTES + (UNITS * UNIT_BYTES % 128 ? 0 : 64);  // so that two columns lie in different banks
constexpr unsigned RING = SUMS + 2 * SUM_BYTES, SLOT_BYTES = 4 * 8 * PITCH;
constexpr unsigned TAIL = RING + SLOTS * SLOT_BYTES;
constexpr unsigned PLACES = TAIL + ROW_WARPS * SPLIT * TAIL_FRAGMENTS * 1024;
constexpr unsigned BARRIERS = PLACES + (SHORT_OF_REGISTERS ? ITEMS * PLACE_PIECES * THREADS * 16 : 0);
static_assert(SHARED_BYTES == BARRIERS + 16 * STAGES, "the plan and the kernel disagree about shared memory");
static_assert(THREADS == 32 * ROW_WARPS * SPLIT && UNITS % 8 == 0 && ROW_WARPS * ROW_TILES == TILES && TAIL_FRAGMENTS >= 0);
static_assert(GROUPS * 4 * PIECE == HIDDEN && OWN * SPLIT * STAGES == GROUPS && CLUSTER % STAGES == 0, "k does not divide");
static_assert(RESIDENT > 0);
static_assert(4 * STAGE_GROUPS % PIECES == 0, "a stage is what some blocks send");

struct Direction {
    const Value* weights;    // [4][H][H]
    const Value* projected;  // [T][B][4][H]
    const Value* h0;         // [B][H]; null: zeros
    const float* c0;         // [B][H]; null: zeros
    const int* lengths;      // [B]; null: all T
    Value* y;                // [T][B][y_stride]
    Value* gates;            // [T][B][4][H] or null
    float* cells;            // [T][B][H] or null
    Value* h_n;              // [B][H]
    float* c_n;              // [B][H]
    long long reverse;
};
struct Arguments {
    Direction directions[2];
    int steps, batch, hidden, y_stride, columns;
};
struct Whole {  // whether rows can be read in 16 bytes
    static constexpr bool PIECES = true;
};
struct ByElement {
    static constexpr bool PIECES = false;
};

// Fragments in registers are spread evenly over all, so that reads of the others are never far apart.
DEVICE constexpr bool is_resident(int f) { return f * RESIDENT / FRAGMENTS != (f + 1) * RESIDENT / FRAGMENTS; }
DEVICE constexpr int index_of(int f) { return is_resident(f) ? f * RESIDENT / FRAGMENTS : f - f * RESIDENT / FRAGMENTS; }

DEVICE bool aligned(const void* at, int bytes) { return reinterpret_cast<unsigned long long>(at) % bytes == 0; }

// Units `from` to `from` + 1, or `from` alone, of a row as one word; zero beyond `hidden`.
DEVICE Word read_word(const Value* row, int from, int hidden) {
    if constexpr (S::PER_WORD == 1) return from < hidden ? float_to_bits(global_read(row + from)) : 0;
    else {
        const Word low = from < hidden ? global_read(row + from) : 0, high = from + 1 < hidden ? global_read(row + from + 1) : 0;
        return low | high << 16;
    }
}
// The 16 bytes from unit `from` of the row at `row` of an array on as an operand; zero beyond `hidden`.
template <class Rows> DEVICE uint4 read_piece(Rows, const Value* array, unsigned row, int from, int hidden) {
    if constexpr (Rows::PIECES) {
        if (from >= hidden) return uint4{0, 0, 0, 0};
        return S::operand_words(global_read(reinterpret_cast<const uint4*>(array + (row + from))));
    } else {
        constexpr int N = S::PER_WORD;
        const Value* const of_row = array + row;
        return S::operand_words({read_word(of_row, from, hidden), read_word(of_row, from + N, hidden),
                                 read_word(of_row, from + 2 * N, hidden), read_word(of_row, from + 3 * N, hidden)});
    }
}

// What a thread computes behind the products: in each round one unit of an octet in one column, 8 threads an octet. Two columns
// of an octet follow one another, since their sums do; where the number of columns is odd, the last one comes behind all.
struct Item {
    unsigned r, octet;  // r: the unit's place in its octet
    int column;         // 8 for none
    DEVICE Item(unsigned thread, int round, int columns) : r(thread & 7) {
        const unsigned group = (thread >> 3) + round * (THREADS / 8), paired = 2 * OCTETS * (columns >> 1);
        const bool last = group >= paired;
        octet = last ? group - paired : (group >> 1) % OCTETS;
        column = !last ? (group >> 1) / OCTETS * 2 + (group & 1) : columns & 1 && octet < OCTETS ? columns - 1 : 8;
    }
};
// Of an item: its unit of the layer and its column, and where it reads and sends, in slot 0 and buffer 0.
struct Place {
    int unit, column;
    unsigned sums, product, h[SENDS], barriers[SENDS];
};

DEVICE Word swap_words(Word word, int mask) { return float_to_bits(shuffle_xor(bits_to_float(word), mask)); }

KERNEL(lstm_cluster_forward, Arguments) {
    const Direction& d = launch.directions[grid_row()];
    const unsigned thread = thread_index(), lane = thread & 31, warp = thread >> 5;
    const int row_warp = warp % ROW_WARPS, part = warp / ROW_WARPS, row = lane >> 2, pair = lane & 3;
    const int rank = cluster_rank(), first_column = cluster_index() * launch.columns;
    const int steps = launch.steps, batch = launch.batch, hidden = launch.hidden;
    const int columns = batch - first_column < launch.columns ? batch - first_column : launch.columns;
    const bool whole = hidden % PIECE == 0;
    const bool whole_words = hidden % S::PER_WORD == 0 && aligned(d.projected, 4);

    // ---- the input product, SLOTS − 1 steps ahead: [gate][column][unit of the block] ----
    auto fetch = [&](int step) {
        if (step < steps) {
            const int t = d.reverse ? steps - 1 - step : step;
            const Value* const from = d.projected + ((long long)t * batch + first_column) * 4 * hidden;
            const unsigned slot = RING + step % SLOTS * SLOT_BYTES;
            if (whole && aligned(d.projected, 16)) {
                ROLLED for (int i = opaque(thread); i < 4 * columns * PIECES; i += THREADS) {
                    const int row_of = i / PIECES, unit = i % PIECES * PIECE;  // row: column · 4 + gate
                    if (rank * UNITS + unit < hidden)
                        copy_async(slot + row_of * PITCH + unit * UNIT_BYTES,
                                   reinterpret_cast<const uint4*>(from + row_of * hidden + rank * UNITS + unit));
                }
            } else {
                constexpr int WORDS = UNITS / S::PER_WORD;
                ROLLED for (int i = opaque(thread); i < 4 * columns * WORDS; i += THREADS) {
                    const int row_of = i / WORDS, unit = i % WORDS * S::PER_WORD;
                    const unsigned to = slot + row_of * PITCH + unit * UNIT_BYTES;
                    const Value* const of_row = from + row_of * hidden;
                    if (!whole_words) shared_write(to, read_word(of_row, rank * UNITS + unit, hidden));
                    else if (rank * UNITS + unit < hidden)
                        copy_async(to, reinterpret_cast<const Word*>(of_row + rank * UNITS + unit));
                }
            }
        }
        copy_commit();
    };
    ROLLED for (int step = 0; step < SLOTS - 1; ++step) fetch(step);

    // ---- weights: a block reads h in the order of ranks rank, rank − 1, …, so that all offsets are known when compiling ----
    auto unit_of = [&](unsigned piece) {
        return int(((rank - piece / PIECES) % CLUSTER * PIECES + piece % PIECES) * PIECE);
    };
    Word resident[RESIDENT][2][4];
    const unsigned tail = TAIL + warp * TAIL_FRAGMENTS * 1024 + lane * 16;
    auto load_fragment = [&](auto rows, int f, unsigned upper, int from, int end) {
        const unsigned lower = upper + hidden * hidden;
        uint4 u, l;
        if constexpr (decltype(rows)::PIECES) {
            u = read_piece(rows, d.weights, upper, from, end), l = read_piece(rows, d.weights, lower, from, end);
        } else {
            // Through shared memory in a loop, which takes fewer registers than all of these reads at once.
            const unsigned own = SUMS + warp * 1024 + lane * 16;
            ROLLED for (int e = 0; e < 2; ++e) shared_write(own + e * 512, read_piece(rows, d.weights, e ? lower : upper, from, end));
            u = shared_read<uint4>(own), l = shared_read<uint4>(own + 512);
        }
        if (is_resident(f)) {
            Word(&to)[2][4] = resident[index_of(f)];
            to[0][0] = u.x, to[0][1] = l.x, to[0][2] = u.y, to[0][3] = l.y;
            to[1][0] = u.z, to[1][1] = l.z, to[1][2] = u.w, to[1][3] = l.w;
        } else {
            // A lane reads back only what it wrote itself.
            shared_write(tail + index_of(f) * 1024, uint4{u.x, l.x, u.y, l.y});
            shared_write(tail + index_of(f) * 1024 + 512, uint4{u.z, l.z, u.w, l.w});
        }
    };
    auto load_all = [&](auto rows) {
        UNROLL for (int kept = 0; kept < 2; ++kept)  // those that stay in registers last
            UNROLL for (int f = 0; f < FRAGMENTS; ++f) {
                if (is_resident(f) != kept) continue;
                const int m = f / ROW_TILES, tile = row_warp * ROW_TILES + f % ROW_TILES;
                const int unit = rank * UNITS + (tile >> 1) * 8 + row;
                load_fragment(rows, f, ((tile & 1) * 2 * hidden + unit) * hidden,
                     unit_of(4 * (m / OWN * STAGE_GROUPS + m % OWN * SPLIT + part) + pair), unit < hidden ? hidden : 0);
            }
    };
    if (whole && aligned(d.weights, 16)) load_all(Whole{});
    else load_all(ByElement{});

    // h is [piece in the block's own order][(column + 2 · piece) mod 8][16 bytes]: reads without bank conflicts.
    auto h_offset = [](int piece, int column) { return unsigned(piece * 128 + ((column + 2 * piece) & 7) * 16); };
    ROLLED for (int i = thread; i < HIDDEN / PIECE * columns; i += THREADS) {
        const int piece = i / columns, column = i % columns;
        const unsigned row_of = (first_column + column) * hidden;
        const uint4 none{0, 0, 0, 0};
        shared_write(h_offset(piece, column), d.h0 ? read_piece(ByElement{}, d.h0, row_of, unit_of(piece), hidden) : none);
    }

    auto barrier = [](int buffer, int stage) { return BARRIERS + unsigned(buffer * STAGES + stage) * 8; };
    const unsigned expected = HIDDEN / PIECE / STAGES * columns * 16;
    if (thread == 0) {
        for (int b = 0; b < 2 * STAGES; ++b) {
            transfer_init(barrier(0, b));
            transfer_expect(barrier(0, b), expected);
        }
    }
    auto place_of = [&](const Item& item) {
        const unsigned n = item.column, unit = item.octet * 8 + item.r;
        Place place;
        place.unit = rank * UNITS + unit, place.column = item.column;
        place.sums = SUMS + 2 * item.octet * 512 + (n >> 1) * 128 + (item.r ^ (n & ~1u)) * 16 + (n & 1) * 8;
        place.product = RING + n * 4 * PITCH + unit / S::PER_WORD * 4;
        UNROLL for (int k = 0; k < SENDS; ++k) {
            // Sends begin with the block itself and go round: at no time do all blocks send to the same one.
            const unsigned slot = item.r % LANES + k * LANES, peer = (rank + slot) % CLUSTER;
            place.h[k] = peer_address(0, peer) + h_offset(slot * PIECES + unit / PIECE, n);
            place.barriers[k] = peer_address(barrier(0, slot / (CLUSTER / STAGES)), peer);
        }
        return place;
    };
    // Where registers are short, places lie in shared memory while products are made. A thread reads back only its own.
    auto place_offset = [&](int i, int piece) { return PLACES + ((i * PLACE_PIECES + piece) * THREADS + thread) * 16; };
    auto save = [&](int i, const Place& place) {
        Word words[4 * PLACE_PIECES] = {Word(place.unit), Word(place.column), place.sums, place.product};
        UNROLL for (int k = 0; k < SENDS; ++k) words[4 + 2 * k] = place.h[k], words[5 + 2 * k] = place.barriers[k];
        UNROLL for (int m = 0; m < PLACE_PIECES; ++m)
            shared_write(place_offset(i, m), uint4{words[4 * m], words[4 * m + 1], words[4 * m + 2], words[4 * m + 3]});
    };
    auto load = [&](int i) {
        Word words[4 * PLACE_PIECES];
        UNROLL for (int m = 0; m < PLACE_PIECES; ++m) {
            const uint4 v = shared_read<uint4>(place_offset(i, m));
            words[4 * m] = v.x, words[4 * m + 1] = v.y, words[4 * m + 2] = v.z, words[4 * m + 3] = v.w;
        }
        Place place{int(words[0]), int(words[1]), words[2], words[3], {}, {}};
        UNROLL for (int k = 0; k < SENDS; ++k) place.h[k] = words[4 + 2 * k], place.barriers[k] = words[5 + 2 * k];
        return place;
    };
    Place places[ITEMS];
    float c[ITEMS], h[ITEMS];
    int length[ITEMS];
    UNROLL for (int i = 0; i < ITEMS; ++i) {
        Place& place = places[i];
        place = place_of(Item(thread, i, columns));
        const int n = first_column + place.column, unit = place.unit;
        const bool valid = place.column < columns && unit < hidden;
        c[i] = valid && d.c0 ? global_read(d.c0 + (long long)n * hidden + unit) : 0.0f;
        h[i] = valid && d.h0 ? S::wide(global_read(d.h0 + (long long)n * hidden + unit)) : 0.0f;
        length[i] = !valid ? 0 : d.lengths ? global_read(d.lengths + n) : steps;
        if (SHORT_OF_REGISTERS) save(i, place);
        place.unit = opaque(place.unit), place.column = opaque(place.column);
        place.sums = opaque(place.sums), place.product = opaque(place.product);
        UNROLL for (int k = 0; k < SENDS; ++k) place.h[k] = opaque(place.h[k]), place.barriers[k] = opaque(place.barriers[k]);
    }

    // Every block has started and armed its barriers before any other sends to it; h0 is in place.
    cluster_barrier();

    const unsigned own_h = part * 512 + pair * 128 + ((row + 2 * pair) & 7) * 16;
    const unsigned own_sums = SUMS + (part * TILES + row_warp * ROW_TILES) * 512 + pair * 128 + (row ^ 2 * pair) * 16;

    uint4 operands[AHEAD] = {};  // zero in lanes of columns that there are not
    for (int step = 0; step < steps; ++step) {
        const int t = d.reverse ? steps - 1 - step : step, current = step & 1;
        float sum[CHAINS][ROW_TILES][4] = {};
        UNROLL for (int stage = 0; stage < STAGES; ++stage) {
            if (step > 0) {
                // Buffer `current` is filled at steps 1, 3, 5, … or 2, 4, 6, …: its (step − 1) / 2-th phase.
                transfer_wait(barrier(current, stage), ((step - 1) >> 1) & 1);
                if (thread == 0) transfer_expect(barrier(current, stage), expected);
            }
            UNROLL for (int q = 0; q < OWN; ++q) {
                const unsigned group = stage * STAGE_GROUPS + q * SPLIT;
                uint4& b = operands[(stage * OWN + q) % AHEAD];
                shared_read_where(row < columns, own_h + current * H_BYTES + group * 512, b);
                UNROLL for (int j = 0; j < ROW_TILES; ++j) {
                    const int f = (stage * OWN + q) * ROW_TILES + j, index = index_of(f), chain = 2 * (stage * OWN + q);
                    if (is_resident(f)) {
                        const Word(&held)[2][4] = resident[index];
                        S::multiply(sum[chain % CHAINS][j], held[0], b.x, b.y);
                        S::multiply(sum[(chain + 1) % CHAINS][j], held[1], b.z, b.w);
                    } else {
                        const uint4 u = shared_read<uint4>(tail + index * 1024), l = shared_read<uint4>(tail + index * 1024 + 512);
                        S::multiply(sum[chain % CHAINS][j], {u.x, u.y, u.z, u.w}, b.x, b.y);
                        S::multiply(sum[(chain + 1) % CHAINS][j], {l.x, l.y, l.z, l.w}, b.z, b.w);
                    }
                }
            }
        }
        UNROLL for (int chain = 1; chain < CHAINS; ++chain)
            UNROLL for (int j = 0; j < ROW_TILES; ++j)
                UNROLL for (int e = 0; e < 4; ++e) sum[0][j][e] += sum[chain][j][e];
        const unsigned half = current * SUM_BYTES;  // those of the step before may still be read
        if (2 * pair < columns) {
            UNROLL for (int j = 0; j < ROW_TILES; ++j) {
                const float(&s)[4] = sum[0][j];  // i and f, or g and o, of two columns
                shared_write(own_sums + half + j * 512, float4{s[0], s[2], s[1], s[3]});
            }
        }
        if (SHORT_OF_REGISTERS) places[0] = load(0);
        copy_wait<SLOTS - 2>();
        // All sums and the input product are there; and all warps have read h_{t-1}, so peers may be sent h_t, after which they
        // send over it.
        block_barrier();

        UNROLL for (int i = 0; i < ITEMS; ++i) {
            if (int(4 * warp + i * (THREADS / 8)) >= OCTETS * columns) break;  // whole warps
            if (SHORT_OF_REGISTERS && i > 0) places[i] = load(i);
            const Place& place = places[i];
            const int r = thread & 7, unit = place.unit, n = place.column;
            float z[4] = {};
            Word x[4] = {};
            if (n < columns) {
                if (unit < hidden) {
                    const unsigned from = place.product + step % SLOTS * SLOT_BYTES;
                    UNROLL for (int g = 0; g < 4; ++g) x[g] = shared_read<Word>(from + g * PITCH);
                }
                UNROLL for (int p = 0; p < SPLIT; ++p) {
                    UNROLL for (int g = 0; g < 2; ++g) {
                        const float2 two = shared_read<float2>(place.sums + half + (p * TILES + g) * 512);
                        z[2 * g] = p ? z[2 * g] + two.x : two.x, z[2 * g + 1] = p ? z[2 * g + 1] + two.y : two.y;
                    }
                }
            }
            const bool second = r & 1;
            const Gates4 projected = {S::element(x[0], second), S::element(x[1], second), S::element(x[2], second),
                                      S::element(x[3], second)};
            const Gates4 gate = lstm_gates<S>(Gates4{z[0], z[1], z[2], z[3]}, projected);
            const LstmState<float> after = lstm_forward<S>(gate, c[i]);
            const bool live = t < length[i];
            const float out = S::wide(S::narrow(after.h));
            c[i] = live ? after.c : c[i];
            h[i] = live ? out : h[i];

            if (step + 1 < steps) {
                // LANES lanes hold the units of one piece; each gathers all of it and sends it to blocks of its own.
                constexpr int N = S::PER_WORD;
                const float other = N == 2 ? shuffle_xor(h[i], 1) : 0.0f;
                const Word w = N == 2 && r & 1 ? S::operand(other, h[i]) : S::operand(h[i], other), v = swap_words(w, N);
                const Word w0 = r & N ? v : w, w1 = r & N ? w : v, v0 = swap_words(w0, 2 * N), v1 = swap_words(w1, 2 * N);
                const uint4 piece = r & 2 * N ? uint4{v0, v1, w0, w1} : uint4{w0, w1, v0, v1};
                UNROLL for (int k = 0; k < SENDS; ++k) {
                    if (n < columns && r % LANES + k * LANES < CLUSTER)
                        send(place.h[k] + (current ^ 1) * H_BYTES, place.barriers[k] + (current ^ 1) * STAGES * 8, piece);
                }
            }
            // After the send: nobody waits for these.
            if (n >= columns || unit >= hidden) continue;
            const long long token = (long long)t * batch + first_column + n;
            global_write(d.y + token * launch.y_stride + unit, S::narrow(live ? out : 0.0f));
            if (d.gates) S::write_gates(d.gates + token * 4 * hidden + unit, hidden, S::gates(gate));
            if (d.cells) global_write(d.cells + token * hidden + unit, c[i]);
        }
        fetch(step + SLOTS - 1);  // over the slot of the step before, which all have read before the barrier
    }
    UNROLL for (int i = 0; i < ITEMS; ++i) {
        const Place place = SHORT_OF_REGISTERS ? load(i) : places[i];
        if (place.column >= columns || place.unit >= hidden) continue;
        const long long at = (long long)(first_column + place.column) * hidden + place.unit;
        global_write(d.h_n + at, S::narrow(h[i]));
        global_write(d.c_n + at, c[i]);
    }
}
