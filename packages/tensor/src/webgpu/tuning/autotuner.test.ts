import { describe, expect, it } from "vitest";
import { GraphBuilder } from "../../graph/builder.js";
import { fuseProgram, gemmsOf, planProgram, type FusedGemm, type FusedProgram } from "../compile.js";
import type { Kernel } from "../kernels/kernel.js";
import { estimatedTiling, tilingsFor, type Tiling } from "../kernels/tile-choice.js";
import { Autotuner, type KernelTimer } from "./autotuner.js";
import type { TuningStore } from "./tuning-store.js";

/** GEMMs of these rows over 512, by 256 columns. */
function programOf(...rows: number[]): FusedProgram {
  const builder = new GraphBuilder(undefined, Infinity);
  const outputs = rows.map((count) => {
    const weight = builder.constant(new Float32Array(512 * 256).fill(count), [512, 256]);
    return [`y${count}`, builder.ops.matmul(builder.input(`x${count}`, [count, 512], "float32"), weight)] as const;
  });
  return fuseProgram(Object.fromEntries(outputs), "float16", {
    hasFloat16: true,
    hasSubgroupMatrices: true,
    maxThreads: 256,
    maxBuffersPerKernel: 8,
    maxTensorBytes: 2 ** 30,
    maxBufferBytes: 2 ** 30,
  });
}

/** A device on which kernels take the time that `timeOf` says, and the clock goes on by as much as `costs`, in milliseconds. */
class FakeTimer implements KernelTimer {
  readonly timed: string[] = [];
  milliseconds = 0;
  private readonly tilings = new Map<string, string>();

  constructor(
    gemms: readonly FusedGemm[],
    private readonly timeOf: (tiling: string) => number,
    private readonly costs = 1,
  ) {
    for (const { problem, kernels } of gemms) {
      for (const tiling of tilingsFor(problem)) this.tilings.set(codeOf(kernels(tiling)), nameOf(tiling));
    }
  }

  prepare(): Promise<void> {
    return Promise.resolve();
  }

  time(kernels: readonly Kernel[]): Promise<number> {
    const tiling = this.tilings.get(codeOf(kernels))!;
    this.timed.push(tiling);
    this.milliseconds += this.costs;
    return Promise.resolve(this.timeOf(tiling));
  }

  readonly now = (): number => this.milliseconds;
}

const codeOf = (kernels: readonly Kernel[]): string => kernels.map(({ code }) => code).join("\n");
const nameOf = ({ tile, splitK }: Tiling): string => `${tile.name} / ${splitK}`;

function memoryStore(): TuningStore & { readonly texts: Map<string, string> } {
  const texts = new Map<string, string>();
  return {
    texts,
    get: (key) => Promise.resolve(texts.get(key)),
    set: (key, value) => Promise.resolve(void texts.set(key, value)),
  };
}

/** Slow but for one tiling. */
const favour = (tiling: string) => (name: string) => (name === tiling ? 1 : 10);

describe("Autotuner", () => {
  const program = programOf(1024);
  const gemms = gemmsOf(program);
  const [{ problem }] = gemms as [FusedGemm];
  const favourite = "large / 2";

  it("takes the tiling that is fastest on the device, in place of the estimate's", async () => {
    expect(nameOf(estimatedTiling(problem))).not.toBe(favourite);
    const timer = new FakeTimer(gemms, favour(favourite));
    const tuner = new Autotuner({ name: "gpu", store: undefined, now: timer.now });
    const choose = await tuner.tune(gemms, timer);
    expect(nameOf(choose(problem))).toBe(favourite);
    // Both tiles, the estimate's choice first.
    expect(timer.timed[0]).toBe(nameOf(estimatedTiling(problem)));
    expect(new Set(timer.timed.map((name) => name.split(" / ")[0]))).toEqual(new Set(["small", "large"]));
    const [step] = planProgram(program, choose).steps;
    expect(step!.groups).toEqual([4, 8, 2]); // 256 columns by 64, 1024 rows by 128, split in two
  });

  it("measures a size once, and keeps it in the store under the adapter's name", async () => {
    const store = memoryStore();
    const timer = new FakeTimer(gemms, favour(favourite));
    const tuner = new Autotuner({ name: "gpu", store, now: timer.now });
    await tuner.tune(gemms, timer);
    const count = timer.timed.length;
    await tuner.tune(gemms, timer);
    expect(timer.timed).toHaveLength(count);
    expect([...store.texts.entries()]).toEqual([["tilings 1 gpu", JSON.stringify({ [problem.key]: ["large", 2] })]]);

    const again = new Autotuner({ name: "gpu", store, now: timer.now });
    expect(nameOf((await again.tune(gemms, timer))(problem))).toBe(favourite);
    expect(timer.timed).toHaveLength(count);

    const other = new Autotuner({ name: "another gpu", store, now: timer.now });
    await other.tune(gemms, timer);
    expect(timer.timed.length).toBeGreaterThan(count);
  });

  it("measures the largest first, for a second, and the others by estimate or the next time", async () => {
    const several = programOf(128, 1024, 512);
    const all = gemmsOf(several);
    const bySize = (rows: number): FusedGemm => all.find((gemm) => gemm.problem.rows === rows)!;
    const timer = new FakeTimer(all, favour(favourite), 180); // the sixth begins within a second, no seventh
    const store = memoryStore();
    const tuner = new Autotuner({ name: "gpu", store, now: timer.now });
    const choose = await tuner.tune(all, timer);
    expect(timer.timed).toHaveLength(6);
    expect(nameOf(choose(bySize(1024).problem))).toBe(favourite);
    expect(choose(bySize(512).problem)).toEqual(estimatedTiling(bySize(512).problem));
    await tuner.tune(all, timer);
    expect(Object.keys(JSON.parse(store.texts.get("tilings 1 gpu")!) as object)).toEqual([
      bySize(1024).problem.key,
      bySize(512).problem.key,
    ]);
  });

  it("measures no GEMM of less than a hundredth of the program, and no small one", async () => {
    const small = gemmsOf(programOf(64));
    const idle = new FakeTimer(small, () => 1);
    await new Autotuner({ name: "gpu", store: undefined, now: idle.now }).tune(small, idle);
    expect(idle.timed).toEqual([]);

    const uneven = gemmsOf(programOf(128, 16384));
    const timer = new FakeTimer(uneven, () => 1);
    const store = memoryStore();
    await new Autotuner({ name: "gpu", store, now: timer.now }).tune(uneven, timer);
    expect(Object.keys(JSON.parse(store.texts.get("tilings 1 gpu")!) as object)).toHaveLength(1);
  });

  it("leaves out what a store holds of other versions, and goes on without a store that fails", async () => {
    const store = memoryStore();
    store.texts.set("tilings 1 gpu", JSON.stringify({ [problem.key]: ["a tile of later", 2], other: 5 }));
    const timer = new FakeTimer(gemms, favour(favourite));
    const choose = await new Autotuner({ name: "gpu", store, now: timer.now }).tune(gemms, timer);
    expect(nameOf(choose(problem))).toBe(favourite);

    const broken: TuningStore = {
      get: () => Promise.reject(new Error("no")),
      set: () => Promise.reject(new Error("no")),
    };
    const chosen = await new Autotuner({ name: "gpu", store: broken, now: timer.now }).tune(gemms, timer);
    expect(nameOf(chosen(problem))).toBe(favourite);
  });
});
