import { describe, expect, it } from "vitest";
import { hardwareName } from "./device.js";

const device = (adapterInfo: object): GPUDevice => ({ adapterInfo }) as GPUDevice;

describe("hardwareName", () => {
  it("is what an adapter tells of itself", () => {
    const info = { vendor: "nvidia", architecture: "hopper", device: "", description: "NVIDIA H100" };
    expect(hardwareName(device(info))).toBe("nvidia hopper NVIDIA H100");
  });

  // As Dawn's adapters in Node tell it.
  it.each([
    { vendor: "google", architecture: "swiftshader", description: "SwiftShader driver 5.0.0", isFallbackAdapter: true },
    { vendor: "google", architecture: "swiftshader", description: "SwiftShader driver 5.0.0" },
    { vendor: "mesa", architecture: "software", description: "llvmpipe: Mesa 25.0.7-2~bpo12+1 (LLVM 15.0.6) 0.0.1" },
    { vendor: "", architecture: "", device: "null-backend", description: "" },
    { vendor: "nvidia", isFallbackAdapter: true },
    { vendor: "", architecture: "" },
  ])("is none of software, and of what has no name: $description $device", (info) => {
    expect(hardwareName(device(info))).toBeUndefined();
  });
});
