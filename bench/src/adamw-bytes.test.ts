import { describe, expect, it } from "vitest";
import { adamWBytes } from "./adamw-bytes.js";

describe("adamWBytes", () => {
  it("is four arrays read and three written", () => {
    expect(adamWBytes(10)).toBe(10 * 7 * 4);
  });
});
