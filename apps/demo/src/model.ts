import type { BackendName } from "@sdxs/runtime/backends";
import { isSame, type FromWorker, type ModelName, type Request, type ToWorker } from "./messages.js";

/** Where a model is to compute: undefined chooses. */
export type BackendChoice = BackendName | undefined;

/**
 * A model in its worker. Of the requests that come while it loads, the newest is drawn. Where the GPU is lost, it is opened
 * anew and draws the last request again; where it is lost once more before a picture, without GPU.
 */
export class Model {
  private worker: Worker | undefined;
  private isReady = false;
  private backend: BackendChoice;
  /** The last request, until its picture comes. */
  private wanted: Request | undefined;
  private losses = 0;
  /** Why the backend is not the one that was asked for. */
  private excuse = "";

  constructor(
    private readonly name: ModelName,
    private readonly onMessage: (message: FromWorker) => void,
  ) {}

  /** Loads the model, in place of what was open before. */
  open(backend: BackendChoice): void {
    this.excuse = "";
    this.start(backend);
  }

  draw(request: Request): void {
    this.wanted = request;
    if (this.isReady) this.send({ type: "draw", request });
  }

  /** Whether a picture was asked for that has not come. */
  get isWaiting(): boolean {
    return this.wanted !== undefined;
  }

  /** Gives up what is drawn. */
  stop(): void {
    this.wanted = undefined;
    if (this.isReady) this.send({ type: "stop" });
  }

  private start(backend: BackendChoice): void {
    this.worker?.terminate();
    this.isReady = false;
    this.backend = backend;
    const worker = new Worker(new URL("./model-worker.ts", import.meta.url), { type: "module", name: this.name });
    worker.onmessage = ({ data }: MessageEvent<FromWorker>) => this.receive(data);
    worker.onerror = ({ message }) => this.onMessage({ type: "failed", code: "", message: message || "It has ended." });
    this.worker = worker;
    this.send({ type: "open", model: this.name, backend });
  }

  private send(message: ToWorker): void {
    this.worker?.postMessage(message);
  }

  private receive(message: FromWorker): void {
    switch (message.type) {
      case "ready":
        this.isReady = true;
        this.onMessage({ ...message, reason: `${message.reason} ${this.excuse}`.trim() });
        if (this.wanted) this.send({ type: "draw", request: this.wanted });
        return;
      case "picture":
        this.losses = 0;
        if (this.wanted && isSame(message, this.wanted)) this.wanted = undefined;
        break;
      case "failed":
        if (this.recovers(message)) return;
        break;
      default:
    }
    this.onMessage(message);
  }

  /** Opens the model anew where a GPU is to blame. */
  private recovers({ code, message }: { readonly code: string; readonly message: string }): boolean {
    const isLost = code === "DEVICE_LOST";
    if (!isLost && (code !== "BACKEND_FAILURE" || this.backend === "onnx")) return false;
    if (isLost && this.losses++ === 0) {
      this.excuse = "The graphics processor was lost and has been started again.";
      this.start(this.backend);
    } else {
      this.excuse = isLost ? "The graphics processor was lost twice." : message.split("\n").at(-1)!.trim();
      this.start("onnx");
    }
    return true;
  }
}
