// What emulated threads do to memory and to each other inside a warp or block. Scheduling and transfers: emulation.cpp.
#include "device.cuh"
#include "emulation.hpp"

namespace emulation {

int thread_index() { return self->thread; }
int cluster_rank() { return self->block; }
int cluster_index() { return cluster->position[0] / cluster->size; }
int grid_position(int axis) { return cluster->position[axis] + (axis == 0 ? self->block : 0); }

static Block& own_block() { return cluster->blocks[self->block]; }
static Warp& own_warp() { return own_block().warps[self->thread / 32]; }

static void check_shared(unsigned offset, unsigned bytes, bool half = false) {
    if ((bytes % 4 && !half) || offset % (bytes < 16 ? bytes : 16)) fail("touches shared memory misaligned");
    if (offset + bytes > own_block().memory.size()) fail("touches shared memory outside of what was launched");
}

// Whether this thread may read or write the word now, and that it does.
static void touch(SharedWord& word, bool write, const char* memory, uintptr_t at) {
    const Access by = word.written;
    const auto complain = [&](const char* does, const char* what) {
        fail(does + (" " + std::string(memory)) + " memory at " + std::to_string(at) + what);
    };
    if (by.agent != NOBODY && by.time == IN_FLIGHT)
        complain(write ? "writes" : "reads", " that a copy which nothing waited for is to fill");
    if (by.agent != NOBODY && self->clock[by.agent] < by.time)
        complain(write ? "writes" : "reads", write ? " over a write that nothing ordered before" : " whose write no wait or barrier ordered before");
    const Access now{self->agent, self->clock[self->agent]};
    if (!write) {
        const bool again = !word.read.empty() && word.read.back().agent == now.agent && word.read.back().time != IN_FLIGHT;
        if (again) word.read.back() = now;
        else word.read.push_back(now);
        return;
    }
    for (const Access read : word.read)
        if (self->clock[read.agent] < read.time) complain("writes", " that another thread may not have read yet");
    word.read.clear();
    word.written = now;
}

void shared_read(unsigned offset, void* to, unsigned bytes) {
    check_shared(offset, bytes, bytes == 2);
    for (unsigned at = offset; at < offset + bytes; at += 4) {
        SharedWord& word = own_block().words[at / 4];
        if (word.written.agent == NOBODY) fail("reads shared memory at " + std::to_string(at) + " that nobody wrote");
        touch(word, false, "shared", at);
    }
    std::memcpy(to, &own_block().memory[offset], bytes);
}

void shared_write(unsigned offset, const void* from, unsigned bytes) {
    check_shared(offset, bytes);
    for (unsigned at = offset; at < offset + bytes; at += 4) touch(own_block().words[at / 4], true, "shared", at);
    std::memcpy(&own_block().memory[offset], from, bytes);
}

static void touch_global(uintptr_t at, bool write) {
    GlobalWord& word = (*cluster->global)[at / 2];
    if (word.cluster != cluster->number && word.cluster >= 0) {
        if (word.written.agent != NOBODY) fail("touches global memory that another cluster of the launch writes");
        word.read_before = true;
        word.read.clear();
    }
    if (write && word.read_before) fail("writes global memory that another cluster of the launch reads");
    word.cluster = cluster->number;
    touch(word, write, "global", at);
}

// Whether the address may be touched at all; true if it lies in an output, whose accesses have to be ordered.
bool in_output(const void* address, unsigned bytes, bool write) {
    const char* const at = static_cast<const char*>(address);
    if (reinterpret_cast<uintptr_t>(at) % (bytes < 16 ? bytes : 16)) fail("touches global memory misaligned");
    bool allowed = false;
    for (const Range& range : cluster->ranges) {
        if (at < range.begin || at + bytes > range.end) continue;
        if (range.writable) return true;
        allowed |= !write;
    }
    if (!allowed) fail(write ? "writes global memory outside of every output" : "reads global memory outside of every array");
    return false;
}

void global_access(const void* address, unsigned bytes, bool write) {
    if (!in_output(address, bytes, write)) return;
    if (!cluster->relaxed.empty())
        for (unsigned i = 0; i < bytes; i += 4) {
            const uintptr_t at = (reinterpret_cast<uintptr_t>(address) + i) & ~uintptr_t(3);
            const auto pair = cluster->relaxed.find(at & ~uintptr_t(7));
            if (cluster->relaxed.count(at) || (pair != cluster->relaxed.end() && pair->second.bytes == 8))
                fail("touches a relaxed word as if it were ordered");
        }
    for (unsigned i = 0; i < bytes; i += 2) touch_global(reinterpret_cast<uintptr_t>(address) + i, write);
}

// The words a copy writes and the global memory it reads are in use until its thread has waited for it, even for that thread.
void copy_async(unsigned to, const void* from, unsigned bytes) {
    check_shared(to, bytes);
    for (unsigned at = to; at < to + bytes; at += 4) {
        SharedWord& word = own_block().words[at / 4];
        touch(word, true, "shared", at);
        word.written.time = IN_FLIGHT;
    }
    const uintptr_t source = reinterpret_cast<uintptr_t>(from);
    if (in_output(from, bytes, false))
        for (unsigned i = 0; i < bytes; i += 2) {
            touch_global(source + i, false);
            (*cluster->global)[(source + i) / 2].read.back().time = IN_FLIGHT;
        }
    auto copy = std::make_unique<Copy>();
    copy->block = self->block, copy->to = to, copy->bytes = bytes, copy->group = self->groups;
    copy->from = static_cast<const char*>(from), copy->place = cluster->copies.size();
    cluster->copies.push_back(copy.get());
    self->copies.push_back(std::move(copy));
}

void copy_commit() { ++self->groups; }

void land(Copy& copy) {
    std::memcpy(&cluster->blocks[copy.block].memory[copy.to], copy.from, copy.bytes);
    copy.landed = true;
    cluster->copies.back()->place = copy.place;
    cluster->copies[copy.place] = cluster->copies.back();
    cluster->copies.pop_back();
}

void copy_wait(unsigned groups) {
    const Access now{self->agent, self->clock[self->agent]}, before{self->agent, IN_FLIGHT};
    const auto end = [&](Access& access) {
        if (access.agent == before.agent && access.time == before.time) access = now;
    };
    std::vector<std::unique_ptr<Copy>> still;
    for (auto& copy : self->copies) {
        if (copy->group + groups >= self->groups) {
            still.push_back(std::move(copy));
            continue;
        }
        if (!copy->landed) land(*copy);
        for (unsigned at = copy->to; at < copy->to + copy->bytes; at += 4) end(own_block().words[at / 4].written);
        for (unsigned i = 0; i < copy->bytes; i += 2) {
            const auto word = cluster->global->find((reinterpret_cast<uintptr_t>(copy->from) + i) / 2);
            if (word == cluster->global->end()) continue;
            for (Access& read : word->second.read) end(read);
        }
    }
    self->copies.swap(still);
}

long long cycles() {
    static long long now = 0;  // no time passes here: every look is one later
    return ++now;
}

void grid_fence() {
    join(self->clock, self->seen);
    self->fenced = self->clock;
    ++self->clock[self->agent];
}

void counter_add(unsigned* counter, unsigned n, bool release) {
    in_output(counter, 4, true);  // an atomic is no race
    *counter += n;
    Clock& published = cluster->counters[counter];
    published.resize(cluster->capacity);
    join(published, release ? self->clock : self->fenced);
    if (release) ++self->clock[self->agent];
}

unsigned counter_read(const unsigned* counter, bool acquire) {
    in_output(counter, 4, false);
    give_way();
    const auto published = cluster->counters.find(counter);
    if (published != cluster->counters.end()) join(acquire ? self->clock : self->seen, published->second);
    return *counter;
}

constexpr size_t VALUES_KEPT = 6;  // of a relaxed word

static RelaxedWord& relaxed_word(const void* address, unsigned bytes, bool write) {
    if (!in_output(address, bytes, write)) fail("reads relaxed what no block writes");
    const uintptr_t at = reinterpret_cast<uintptr_t>(address);
    for (const uintptr_t other : {at & ~uintptr_t(7), at | 4}) {
        const auto found = cluster->relaxed.find(other);
        if (found == cluster->relaxed.end()) continue;
        if (found->second.bytes != bytes && (found->second.bytes == 8 || bytes == 8))
            fail("touches a relaxed word in another size than before");
    }
    RelaxedWord& word = cluster->relaxed[at];
    if (word.values.empty()) {
        uint64_t bits = 0;
        std::memcpy(&bits, address, bytes);
        word.bytes = bytes;
        word.values.push_back({bits, {}});
    }
    return word;
}

// Of the values that coherence allows, any: those before one that this thread has read, or that it knows to have been written or
// read by others, are gone for it.
uint64_t relaxed_read(const void* address, unsigned bytes) {
    RelaxedWord& word = relaxed_word(address, bytes, false);
    const uint32_t newest = word.first + word.values.size() - 1;
    uint32_t oldest = word.first;
    RelaxedWord::Look* own = nullptr;
    for (auto& look : word.looks) {
        if (look.agent == self->agent) own = &look;
        if (self->clock[look.agent] >= look.time && look.index > oldest) oldest = look.index;
    }
    for (uint32_t index = newest; index > oldest; --index) {
        const Access by = word.values[index - word.first].by;
        if (by.agent != NOBODY && self->clock[by.agent] >= by.time) oldest = index;
    }
    const uint32_t chosen = random_below(2) ? newest : oldest + random_below(newest - oldest + 1);
    if (!own) own = &word.looks.emplace_back();
    own->agent = self->agent, own->time = self->clock[self->agent], own->index = chosen;
    return word.values[chosen - word.first].bits;
}

void relaxed_write(void* address, uint64_t value, unsigned bytes) {
    RelaxedWord& word = relaxed_word(address, bytes, true);
    const Access before = word.values.back().by;
    if (before.agent != NOBODY && self->clock[before.agent] < before.time)
        fail("writes a relaxed word over a write that nothing ordered before");
    word.values.push_back({value, {self->agent, self->clock[self->agent]}});
    if (word.values.size() > VALUES_KEPT) word.values.erase(word.values.begin()), ++word.first;
    std::memcpy(address, &value, bytes);
}

void report(int* status, int code) {
    in_output(status, sizeof code, true);  // whoever fails may say so
    *status = code;
}

void exchange(const void* address, bool write) {
    SharedWord& word = cluster->letters[address];
    const Access by = word.written;
    if (!write && by.agent == NOBODY) fail("reads an exchanged word that nobody wrote");
    if (by.agent != NOBODY && self->clock[by.agent] < by.time)
        fail(write ? "writes an exchanged word over a write that nothing ordered before"
                   : "reads an exchanged word whose write nothing ordered before");
    if (!write) return word.read.push_back({self->agent, self->clock[self->agent]});
    for (const Access read : word.read)
        if (self->clock[read.agent] < read.time) fail("writes an exchanged word that another block may not have read yet");
    word.read.clear();
    word.written = {self->agent, self->clock[self->agent]};
}

Word shuffle(Word value, int source) {
    Warp& warp = own_warp();
    const int lane = self->thread & 31;
    warp.in[lane].b[0] = value;
    if (warp.barrier.arrived.size() == 31)
        for (int i = 0; i < 32; ++i) warp.out[i].b[0] = warp.in[i].b[0];
    arrive_and_wait(warp.barrier, 32, "shuffle", false);
    return warp.out[source & 31].b[0];
}

bool warp_any(bool value) {
    Warp& warp = own_warp();
    warp.in[self->thread & 31].b[0] = value;
    if (warp.barrier.arrived.size() == 31) {
        Word any = 0;
        for (const auto& lane : warp.in) any |= lane.b[0];
        for (auto& lane : warp.out) lane.b[0] = any;
    }
    arrive_and_wait(warp.barrier, 32, "warp_any", false);
    return warp.out[self->thread & 31].b[0] != 0;
}

static float element(Kind kind, Word word, int which) {
    if (kind == Kind::tensorfloat32) return bits_to_float(word & 0xffffe000u);
    const Word bits = which ? word >> 16 : word & 0xffffu;
    return kind == Kind::bfloat16 ? bits_to_float(bits << 16) : half_to_float(bits);
}

// PTX manual, "Matrix fragments for mma.m16n8k16" and "… m16n8k8": in words of PER_WORD elements the two agree.
static void multiply_warp(Kind kind, Warp& warp) {
    const int per_word = kind == Kind::tensorfloat32 ? 1 : 2, depth = 8 * per_word;
    float a[16][16], b[16][8];
    for (int lane = 0; lane < 32; ++lane) {
        const int group = lane >> 2, pair = lane & 3;
        for (int r = 0; r < 4; ++r)
            for (int e = 0; e < per_word; ++e)
                a[group + 8 * (r & 1)][(pair + 4 * (r >> 1)) * per_word + e] = element(kind, warp.in[lane].a[r], e);
        for (int r = 0; r < 2; ++r)
            for (int e = 0; e < per_word; ++e) b[(pair + 4 * r) * per_word + e][group] = element(kind, warp.in[lane].b[r], e);
    }
    for (int lane = 0; lane < 32; ++lane)
        for (int r = 0; r < 4; ++r) {
            const int m = (lane >> 2) + 8 * (r >> 1), n = (lane & 3) * 2 + (r & 1);
            float sum = warp.in[lane].d[r];
            for (int k = 0; k < depth; ++k) sum += a[m][k] * b[k][n];
            warp.out[lane].d[r] = sum;
        }
}

void multiply(Kind kind, float (&d)[4], const Word (&a)[4], Word b0, Word b1) {
    Warp& warp = own_warp();
    const int lane = self->thread & 31;
    std::memcpy(warp.in[lane].a, a, sizeof a);
    std::memcpy(warp.in[lane].d, d, sizeof d);
    warp.in[lane].b[0] = b0, warp.in[lane].b[1] = b1;
    if (warp.barrier.arrived.size() == 31) multiply_warp(kind, warp);
    arrive_and_wait(warp.barrier, 32, "multiply", false);
    std::memcpy(d, warp.out[lane].d, sizeof d);
}

void group_begin() {
    if (self->grouped) fail("calls group_begin a second time");
    self->grouped = true;
    self->begun = self->clock;
}
void group_end() {
    if (!self->grouped) fail("calls group_end without group_begin");
    self->grouped = false;
}
// An operand of tensor cores that read shared memory by themselves: they see what was written before group_begin.
Word group_read(unsigned offset) {
    if (!self->grouped) fail("multiplies as a group outside of group_begin and group_end");
    Word value;
    shared_read(offset, &value, sizeof value);
    const Access by = own_block().words[offset / 4].written;
    if (self->begun[by.agent] < by.time) fail("multiplies as a group what was written after group_begin");
    return value;
}

void warp_barrier() { arrive_and_wait(own_warp().barrier, 32, "warp_barrier", true); }
void block_barrier() { arrive_and_wait(own_block().barriers[0], cluster->threads, "block_barrier", true); }
void named_barrier(int id, int threads) {
    if (id < 1 || id > 15) fail("uses a named barrier that is not 1…15");
    arrive_and_wait(own_block().barriers[id], threads, "named_barrier", true);
}
void cluster_barrier() { arrive_and_wait(cluster->barrier, size_t(cluster->size) * cluster->threads, "cluster_barrier", true); }

// IEEE 754 binary16, to nearest even.
Word float_to_half(float value) {
    const Word bits = float_to_bits(value), sign = bits >> 16 & 0x8000u, magnitude = bits & 0x7fffffffu;
    if (magnitude > 0x7f800000u) return sign | 0x7e00u;
    if (magnitude >= 0x477ff000u) return sign | 0x7c00u;
    if (magnitude < 0x38800000u) return sign | Word(std::nearbyint(std::fabs(value) * 0x1p24f));
    const Word shifted = magnitude - 0x38000000u;
    return sign | (shifted + 0xfffu + (shifted >> 13 & 1)) >> 13;
}
float half_to_float(Word value) {
    const Word sign = (value & 0x8000u) << 16, magnitude = value & 0x7fffu;
    if (magnitude >= 0x7c00u) return bits_to_float(sign | 0x7f800000u | (magnitude & 0x3ffu) << 13);
    if (magnitude < 0x400u) return bits_to_float(sign | float_to_bits(float(magnitude) * 0x1p-24f));
    return bits_to_float(sign | ((magnitude << 13) + 0x38000000u));
}
}  // namespace emulation
