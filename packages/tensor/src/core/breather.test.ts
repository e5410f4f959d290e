import { expect, it } from "vitest";
import { breather } from "./breather.js";

it("lets a timer come between pieces of work that never wait, every 20 ms", async () => {
  const breathe = breather();
  let fired = false;
  setTimeout(() => (fired = true));
  work(25);
  await breathe();
  work(25);
  await breathe(); // Node takes timers up once a turn
  expect(fired).toBe(true);
});

function work(ms: number): void {
  const end = performance.now() + ms;
  while (performance.now() < end);
}
