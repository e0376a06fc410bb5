// Runs an emulated grid: schedules fibers, sends and copies in flight in random order, one cluster after the other. A cluster
// that deadlocks, that ends with one of them in flight, or that breaks a rule of device.cuh ends the run with a sentence.
#include "device.cuh"
#include "emulation.hpp"

extern "C" void emulated_kernel(const void*);

namespace emulation {

Cluster* cluster = nullptr;
Fiber* self = nullptr;
constexpr size_t STACK_BYTES = 64 << 10;
constexpr long long SPINS_LIMIT = 1 << 21;

void fail(const std::string& message) {
    throw Failure{"block " + std::to_string(self->block) + ", thread " + std::to_string(self->thread) + ": " + message};
}

void join(Clock& into, const Clock& from) {
    for (size_t i = 0; i < into.size(); ++i) into[i] = into[i] < from[i] ? from[i] : into[i];
}

uint64_t random_below(uint64_t limit) {
    cluster->random = cluster->random * 6364136223846793005u + 1442695040888963407u;
    return (cluster->random >> 33) % limit;
}

void block_here(const char* what) {
    Fiber* const me = self;
    me->waits_for = what;
    if (!_setjmp(me->resume)) _longjmp(cluster->scheduler, 1);
    me->waits_for = "nothing";
}

void wake(Fiber* fiber) { cluster->runnable.push_back(fiber); }

void arrive_and_wait(Barrier& barrier, size_t expected, const char* what, bool orders_memory) {
    if (!barrier.arrived.empty() && std::strcmp(barrier.what, what) != 0)
        fail(std::string("calls ") + what + " while others of its group are in " + barrier.what);
    barrier.what = what;
    barrier.arrived.push_back(self);
    if (barrier.arrived.size() < expected) return block_here(what);
    std::vector<Fiber*> group;
    group.swap(barrier.arrived);
    if (orders_memory) {
        Clock all(cluster->capacity);
        for (Fiber* fiber : group) join(all, fiber->clock);
        for (Fiber* fiber : group) {
            fiber->clock = all;
            ++fiber->clock[fiber->agent];
        }
    }
    for (Fiber* fiber : group)
        if (fiber != self) wake(fiber);
}

void give_way() {
    if (++cluster->spins > SPINS_LIMIT) fail("spins for ever on a word of global memory");
    wake(self);
    block_here("a spin on global memory");
}

static void complete_if_due(Transfer& transfer) {
    if (!transfer.armed || transfer.bytes != 0) return;
    transfer.armed = false;
    ++transfer.phase;
    transfer.gathering[transfer.agent] = transfer.phase;
    transfer.completed = transfer.gathering;
    std::vector<std::pair<Fiber*, uint32_t>> still;
    for (auto& [fiber, parity] : transfer.waiting) {
        if ((transfer.phase & 1) != parity) {
            join(fiber->clock, transfer.completed);
            wake(fiber);
        } else still.emplace_back(fiber, parity);
    }
    transfer.waiting.swap(still);
}

static void land(size_t index) {
    const AsyncCopy copy = cluster->in_flight[index];
    cluster->in_flight[index] = cluster->in_flight.back();
    cluster->in_flight.pop_back();
    Block& block = cluster->blocks[copy.block];
    const std::string where = "a send to block " + std::to_string(copy.block);
    if (block.running == 0) throw Failure{where + " landed after that block had ended"};
    std::memcpy(&block.memory[copy.to], copy.value, copy.bytes);
    Transfer& transfer = block.transfers.at(copy.barrier);
    if (transfer.phase != copy.phase) throw Failure{where + " was counted in a later phase than it was sent in"};
    transfer.bytes -= copy.bytes;
    complete_if_due(transfer);
}

static Transfer& transfer_at(int block, unsigned offset) {
    auto found = cluster->blocks[block].transfers.find(offset);
    if (found == cluster->blocks[block].transfers.end()) fail("uses a transfer barrier before anyone created it");
    Transfer& transfer = found->second;
    if (self->clock[transfer.created.agent] < transfer.created.time)
        fail("uses a transfer barrier whose creation no barrier published");
    return transfer;
}

void transfer_init(unsigned barrier) {
    Transfer& transfer = cluster->blocks[self->block].transfers[barrier];
    transfer.agent = cluster->agents++;
    if (transfer.agent >= cluster->capacity) fail("creates more than 8 transfer barriers a block");
    transfer.gathering.assign(cluster->capacity, 0);
    transfer.created = {self->agent, self->clock[self->agent]};
}

void transfer_expect(unsigned barrier, unsigned bytes) {
    Transfer& transfer = transfer_at(self->block, barrier);
    if (transfer.armed) fail("arrives a second time in one phase of a transfer barrier");
    transfer.armed = true;
    transfer.bytes += bytes;
    join(transfer.gathering, self->clock);
    ++self->clock[self->agent];
    complete_if_due(transfer);
}

void transfer_wait(unsigned barrier, unsigned parity) {
    Transfer& transfer = transfer_at(self->block, barrier);
    if ((transfer.phase & 1) != parity) {
        if (transfer.phase == 0) fail("waits for the phase before the first");
        join(self->clock, transfer.completed);
        return;
    }
    transfer.waiting.emplace_back(self, parity);
    block_here("transfer_wait");
}

void send(unsigned to, unsigned barrier, const void* from, unsigned bytes) {
    const int block = to >> 24;
    to &= 0xffffffu, barrier &= 0xffffffu;
    if (block >= cluster->size) fail("sends to a block that is not in the cluster");
    if (to % bytes || to + bytes > cluster->blocks[block].memory.size()) fail("sends to a place misaligned or outside");
    Transfer& transfer = transfer_at(block, barrier);
    for (unsigned at = to; at < to + bytes; at += 4) {
        SharedWord& word = cluster->blocks[block].words[at / 4];
        const Access by = word.written;
        if (by.agent != NOBODY && self->clock[by.agent] < by.time) fail("sends over a value whose write it does not know of");
        for (const Access read : word.read)
            if (self->clock[read.agent] < read.time)
                fail("sends over a value that thread " + std::to_string(read.agent) + " of the cluster may not have read yet");
        word.read.clear();
        word.written = {transfer.agent, transfer.phase + 1};
    }
    AsyncCopy copy{block, to, barrier, bytes, transfer.phase, {}};
    std::memcpy(copy.value, from, bytes);
    cluster->in_flight.push_back(copy);
    join(transfer.gathering, self->clock);
    ++self->clock[self->agent];
}

static const void* kernel_arguments = nullptr;

static void entry() {
    try {
        emulated_kernel(kernel_arguments);
        if (self->grouped) fail("ends between group_begin and group_end");
        if (!self->copies.empty()) fail("ends before it has waited for its copies");
    } catch (const Failure& failure) {
        cluster->failure = failure.message;
    }
    self->finished = true;
    --cluster->blocks[self->block].running;
    _longjmp(cluster->scheduler, 1);
}

static void resume(Fiber* fiber) {
    self = fiber;
    if (_setjmp(cluster->scheduler)) return;
    if (fiber->started) _longjmp(fiber->resume, 1);
    fiber->started = true;
    setcontext(&fiber->context);
}

static void run_cluster() {
    while (true) {
        const size_t runnable = cluster->runnable.size(), flying = cluster->in_flight.size();
        if (!cluster->failure.empty()) throw Failure{cluster->failure};
        if (runnable + flying == 0) break;
        // Copies are in no hurry: many of them land no sooner than their thread waits.
        const size_t chosen = random_below(runnable + flying + (cluster->copies.size() + 7) / 8);
        if (chosen >= runnable + flying) {
            land(*cluster->copies[random_below(cluster->copies.size())]);
            continue;
        }
        if (chosen >= runnable) {
            land(chosen - runnable);
            continue;
        }
        Fiber* const fiber = cluster->runnable[chosen];
        cluster->runnable[chosen] = cluster->runnable.back();
        cluster->runnable.pop_back();
        resume(fiber);
    }
    for (const auto& fiber : cluster->fibers)
        if (!fiber->finished)
            throw Failure{"deadlock: thread " + std::to_string(fiber->thread) + " of block " + std::to_string(fiber->block) +
                          " waits for ever in " + fiber->waits_for};
}

static void add_fiber(int block, int thread) {
    auto fiber = std::make_unique<Fiber>();
    fiber->block = block, fiber->thread = thread, fiber->agent = block * cluster->threads + thread;
    fiber->clock.assign(cluster->capacity, 0);
    fiber->clock[fiber->agent] = 1;
    fiber->fenced = fiber->seen = Clock(cluster->capacity);
    fiber->stack.reset(new char[STACK_BYTES]);
    getcontext(&fiber->context);
    fiber->context.uc_stack.ss_sp = fiber->stack.get();
    fiber->context.uc_stack.ss_size = STACK_BYTES;
    makecontext(&fiber->context, entry, 0);
    cluster->runnable.push_back(fiber.get());
    cluster->fibers.push_back(std::move(fiber));
}

static void populate(int threads, unsigned shared_bytes) {
    cluster->agents = cluster->size * threads;
    cluster->capacity = cluster->agents + 8 * cluster->size;
    cluster->blocks.resize(cluster->size);
    for (int b = 0; b < cluster->size; ++b) {
        Block& block = cluster->blocks[b];
        block.memory.assign(shared_bytes, 0xff);  // NaN in every float format
        block.words.resize(shared_bytes / 4 + 1);
        block.warps.resize(threads / 32);
        block.running = threads;
        for (int t = 0; t < threads; ++t) add_fiber(b, t);
    }
}
}  // namespace emulation

// Runs the kernel this library was linked with. `grid` is in blocks; `ranges` holds begin, end, writable of every array
// the kernel may touch. Returns null, or a sentence that is valid until the next call.
extern "C" __attribute__((visibility("default"))) const char* emulate(const int* grid, int cluster_size, int threads, unsigned shared_bytes, uint64_t seed,
                               const void* arguments, const int64_t* ranges, int range_count) {
    using namespace emulation;
    static std::string message;
    kernel_arguments = arguments;
    std::unordered_map<uintptr_t, GlobalWord> global;
    int number = 0;
    try {
        for (int z = 0; z < grid[2]; ++z)
            for (int y = 0; y < grid[1]; ++y)
                for (int x = 0; x < grid[0]; x += cluster_size) {
                    Cluster fresh;
                    cluster = &fresh;
                    fresh.number = number++, fresh.global = &global;
                    fresh.size = cluster_size, fresh.threads = threads, fresh.random = seed + 977 * x + 31 * y + z;
                    fresh.position[0] = x, fresh.position[1] = y, fresh.position[2] = z;
                    for (int i = 0; i < range_count; ++i)
                        fresh.ranges.push_back({reinterpret_cast<const char*>(ranges[3 * i]),
                                                reinterpret_cast<const char*>(ranges[3 * i + 1]), ranges[3 * i + 2] != 0});
                    populate(threads, shared_bytes);
                    run_cluster();
                }
    } catch (const Failure& failure) {
        message = failure.message;
        return message.c_str();
    }
    return nullptr;
}
