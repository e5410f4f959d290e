import type { FromWorker, ModelName, Picture } from "./messages.js";
import { models } from "./models.js";
import { element, paint } from "./elements.js";
import { Speed } from "./speed.js";

/** One model's figure on the page. */
export class ModelView {
  /** What it shows. */
  picture: Picture | undefined;
  private readonly canvas: HTMLCanvasElement;
  private readonly message: HTMLElement;
  private readonly retry: HTMLButtonElement;
  private readonly speed: HTMLElement;
  private readonly progress: HTMLProgressElement;
  private speeds = new Speed();

  constructor(
    private readonly name: ModelName,
    onRetry: () => void,
  ) {
    this.canvas = element(`#${name} canvas`, HTMLCanvasElement);
    this.message = element(`#${name} .message`, HTMLElement);
    this.retry = element(`#${name} .retry`, HTMLButtonElement);
    this.speed = element(`#${name} .speed`, HTMLElement);
    this.progress = element(`#${name} progress`, HTMLProgressElement);
    this.retry.onclick = onRetry;
  }

  show(message: FromWorker): void {
    switch (message.type) {
      case "progress":
        this.tell("Loading the model.");
        this.busy(message.loaded / message.total);
        return;
      case "ready":
        this.speeds = new Speed();
        this.tell("");
        this.busy(undefined);
        return;
      case "step": {
        const { steps } = models[this.name];
        if (steps > 1) this.busy(message.step / steps);
        return;
      }
      case "picture":
        this.speeds.add(message.ms);
        this.picture = message;
        paint(this.canvas, message, this.name);
        this.speed.textContent = String(this.speeds);
        this.tell("");
        this.busy(undefined);
        return;
      case "failed":
        this.tell(`The ${this.name} failed. ${message.message}`, true);
        this.busy(undefined);
        return;
    }
  }

  /** Counts a picture that is shown elsewhere. */
  count({ ms }: Picture): void {
    this.speeds.add(ms);
    this.speed.textContent = String(this.speeds);
  }

  tell(text: string, canRetry = false): void {
    this.message.textContent = text;
    this.retry.hidden = !canRetry;
  }

  /** How much is done, from 0 to 1; undefined: nothing is under way. */
  busy(share: number | undefined): void {
    this.progress.hidden = share === undefined;
    this.progress.value = share ?? 0;
  }
}
