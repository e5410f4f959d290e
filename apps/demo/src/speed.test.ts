import { expect, it } from "vitest";
import { Speed } from "./speed.js";

it("is the median of the last 15 pictures", () => {
  const speed = new Speed();
  expect(String(speed)).toBe("");
  for (const ms of [40, 20, 31]) speed.add(ms);
  expect(String(speed)).toBe("31 ms per image, 32 per second");
  for (let i = 0; i < 15; i++) speed.add(2000);
  speed.add(8);
  expect(String(speed)).toBe("2000 ms per image, 0.50 per second");
  for (let i = 0; i < 8; i++) speed.add(8.04);
  expect(String(speed)).toBe("8.0 ms per image, 124 per second");
});
