import { HostTensor, type Backend, type Program, type SdxsError } from "@sdxs/tensor";
import type { ConformanceCase, Finding } from "@sdxs/tensor/conformance";

/** A backend on WebGPU, and its device. */
export interface GpuUnderTest {
  readonly start: () => Promise<Backend<unknown>>;
  readonly device: () => Promise<GPUDevice>;
}

const passed: Finding = { worstError: 0, tolerance: 0, message: "" };
const failed = (message: string): Finding => ({ worstError: Infinity, tolerance: 0, message });

const doubled: Program<"x", "y"> = (ops, _params, { x }) => ({ y: ops.mul(x, 2) });
const ofShape = (...shape: number[]) => ({ inputs: { x: { shape } } });
const one = HostTensor.from([1], [1]);

/** What goes wrong on a GPU beside the calls that cause it must not show as zeros. The last case loses the device. */
export function gpuCases({ start, device }: GpuUnderTest): readonly ConformanceCase[] {
  return [
    {
      name: "GPU: a tensor larger than any buffer is refused when its program is compiled",
      async check() {
        const backend = await start();
        await (await backend.compile(doubled, ofShape(1))).dispose(); // the device is known from here on
        const elements = (await device()).limits.maxBufferSize / 4 + 1;
        const code = await codeOf(() => backend.compile(doubled, ofShape(elements)));
        return code === "BACKEND_FAILURE" ? passed : failed(`expected BACKEND_FAILURE, got ${code}`);
      },
    },
    {
      name: "GPU: what WebGPU reports beside the calls is thrown, once",
      async check() {
        const backend = await start();
        const compiled = await backend.compile(doubled, ofShape(1));
        const { y } = await compiled.run({}, { x: one });
        const gpu = await device();
        gpu.createBuffer({ size: 8, usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.STORAGE }); // not a valid combination
        await gpu.queue.onSubmittedWorkDone();
        const codes = [await codeOf(() => backend.download(y)), await codeOf(() => backend.download(y))].join();
        backend.dispose(y);
        await compiled.dispose();
        return codes === "BACKEND_FAILURE,none" ? passed : failed(`expected BACKEND_FAILURE, then none, got ${codes}`);
      },
    },
    {
      name: "GPU: a lost device is an error, and a new backend computes on another",
      async check() {
        const backend = await start();
        const compiled = await backend.compile(doubled, ofShape(1));
        const trainable = backend.trainable({ w: one }, {});
        const { y } = await compiled.run({}, { x: one });
        const gpu = await device();
        gpu.destroy();
        await gpu.lost;
        const codes = [
          await codeOf(() => backend.download(y)),
          await codeOf(() => compiled.run({}, { x: one })),
          await codeOf(() => backend.compile(doubled, ofShape(1))),
        ];
        backend.dispose(y);
        trainable.dispose();
        await compiled.dispose();
        if (codes.some((code) => code !== "DEVICE_LOST")) return failed(`expected DEVICE_LOST, got ${codes.join()}`);
        const renewed = await start();
        const again = await renewed.compile(doubled, ofShape(1));
        const { y: result } = await again.run({}, { x: one });
        const value = (await renewed.download(result)).item();
        renewed.dispose(result);
        await again.dispose();
        return value === 2 ? passed : failed(`expected 2, got ${value}`);
      },
    },
  ];
}

async function codeOf(attempt: () => unknown): Promise<string> {
  try {
    await attempt();
    return "none";
  } catch (error) {
    return (error as Partial<SdxsError>).code ?? String(error);
  }
}
