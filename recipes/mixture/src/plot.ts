import type { HostTensor } from "@sdxs/tensor";

/** Sets of points [count, 2, 1, 1] side by side over [-3, 3]^2, each under its title, as an SVG. */
export function scatterPlots(sets: readonly { readonly title: string; readonly points: HostTensor }[]): string {
  const size = 150; // chosen: six fit beside each other in a README
  const gap = 12;
  const width = sets.length * (size + gap) + gap;
  const height = size + 2 * gap + 20;
  const panels = sets.map(({ title, points: { data } }, index) => {
    const left = gap + index * (size + gap);
    const dots: string[] = [];
    for (let i = 0; i < data.length; i += 2) {
      const x = (((data[i] ?? 0) + 3) / 6) * size;
      const y = ((3 - (data[i + 1] ?? 0)) / 6) * size;
      if (x >= 0 && x <= size && y >= 0 && y <= size) dots.push(`M${x.toFixed(1)} ${y.toFixed(1)}h0`);
    }
    return (
      `<g transform="translate(${left} ${gap + 20})">` +
      `<text x="${size / 2}" y="-8" text-anchor="middle">${title}</text>` +
      `<rect width="${size}" height="${size}" fill="#fff" stroke="#ccc"/>` +
      `<path d="${dots.join("")}" stroke="#3b6fd4" stroke-opacity="0.35" stroke-width="3" stroke-linecap="round"/></g>`
    );
  });
  return (
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" ` +
    `font-family="sans-serif" font-size="13"><rect width="100%" height="100%" fill="#fafafa"/>${panels.join("")}</svg>\n`
  );
}
