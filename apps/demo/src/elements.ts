import type { Picture } from "./messages.js";

/** The page's element of a selector, of a class. */
export function element<E extends Element>(selector: string, kind: abstract new () => E): E {
  const found = document.querySelector(selector);
  if (found instanceof kind) return found;
  throw new Error(`The page has no ${selector} of the class ${kind.name}.`);
}

/** Draws an image on its canvas, and describes it to screen readers. */
export function paint(canvas: HTMLCanvasElement, { image, prompt, seed, sketch, style }: Picture, by: string): void {
  canvas.width = image.width;
  canvas.height = image.height;
  canvas.getContext("2d")?.putImageData(new ImageData(image.data, image.width), 0, 0);
  const guides = [...(sketch ? ["after the sketch"] : []), ...(style ? [`in the style ${style}`] : [])];
  canvas.setAttribute(
    "aria-label",
    [prompt || "no prompt", `seed ${seed}`, ...guides, `drawn by the ${by}`].join(", "),
  );
}
