/** How many pictures the figure is the median of. Chosen: steady, and soon true again after a change. */
const COUNT = 15;

/** The speed of the last pictures. */
export class Speed {
  private times: number[] = [];

  add(ms: number): void {
    this.times = [...this.times.slice(1 - COUNT), ms];
  }

  /** As "31 ms per image, 32 per second"; empty before it is known. */
  toString(): string {
    const sorted = [...this.times].sort((a, b) => a - b);
    const ms = sorted[Math.floor(sorted.length / 2)];
    if (ms === undefined) return "";
    const perSecond = 1000 / ms;
    return `${twoDigits(ms)} ms per image, ${twoDigits(perSecond)} per second`;
  }
}

const twoDigits = (value: number): string => (value < 10 ? value.toPrecision(2) : value.toFixed());
