import { describe, expect, it } from "vitest";
import { watchDevice, type GpuDevice } from "./gpu-device.js";

function fakeDevice() {
  let lose: (info: { reason: string; message: string }) => void = () => undefined;
  const listeners: ((event: { error: { message: string } }) => void)[] = [];
  const device: GpuDevice = {
    limits: { maxBufferSize: 1, maxStorageBufferBindingSize: 1 },
    features: new Set(),
    lost: new Promise((resolve) => (lose = resolve)),
    addEventListener: (_type, listener) => listeners.push(listener),
  };
  return {
    device,
    lose: async (message: string) => {
      lose({ reason: "unknown", message });
      await device.lost;
    },
    report: (message: string) => listeners.forEach((listener) => listener({ error: { message } })),
  };
}

describe("watchDevice", () => {
  it("has nothing to say of a device that works", () => {
    const watch = watchDevice(fakeDevice().device);
    expect(() => watch.check()).not.toThrow();
    expect(watch.isLost).toBe(false);
  });

  it("throws the first of several errors, once", () => {
    const { device, report } = fakeDevice();
    const watch = watchDevice(device);
    report("the buffer is too large");
    report("the buffer is invalid");
    expect(() => watch.check()).toThrow(
      expect.objectContaining({ code: "BACKEND_FAILURE", message: expect.stringContaining("the buffer is too large") }),
    );
    expect(() => watch.check()).not.toThrow();
  });

  it("throws DEVICE_LOST each time once the device is lost", async () => {
    const { device, lose } = fakeDevice();
    const watch = watchDevice(device);
    await lose("the driver restarted");
    expect(watch.isLost).toBe(true);
    for (let i = 0; i < 2; i++) {
      expect(() => watch.check()).toThrow(
        expect.objectContaining({ code: "DEVICE_LOST", message: expect.stringContaining("the driver restarted") }),
      );
    }
  });

  it("watches a device once, also for several callers", () => {
    const { device } = fakeDevice();
    expect(watchDevice(device)).toBe(watchDevice(device));
  });
});
