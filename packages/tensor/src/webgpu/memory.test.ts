import { describe, expect, it } from "vitest";
import { GpuMemory } from "./memory.js";

const MIB = 2 ** 20;

function start() {
  const destroyed: GPUBuffer[] = [];
  const createBuffer = ({ size }: GPUBufferDescriptor): GPUBuffer => {
    const buffer = { size, destroy: () => destroyed.push(buffer) } as unknown as GPUBuffer;
    return buffer;
  };
  return { memory: new GpuMemory({ createBuffer } as unknown as GPUDevice), destroyed };
}

describe("GpuMemory", () => {
  it("takes the wanted buffer where that is free and of the size, else another free one, else a new one", () => {
    const { memory } = start();
    const [first, second, third] = [memory.take(4), memory.take(4), memory.take(4)];
    const large = memory.take(8);
    for (const buffer of [first, second, large]) memory.give(buffer);
    expect(memory.take(4, first)).toBe(first);
    expect(memory.take(4, third)).toBe(second);
    expect(memory.take(4, large)).not.toBe(large);
    expect(memory.take(8, large)).toBe(large);
  });

  it("keeps half a gibibyte of free buffers, and as much more as is reserved", () => {
    const { memory, destroyed } = start();
    memory.reserve(300 * MIB);
    const buffers = [400, 400, 100].map((size) => memory.take(size * MIB));
    for (const buffer of buffers) memory.give(buffer);
    expect(destroyed).toEqual([buffers[2]]);
    memory.reserve(-300 * MIB);
    expect(destroyed).toHaveLength(2);
    expect(buffers).toContain(memory.take(400 * MIB));
  });
});
