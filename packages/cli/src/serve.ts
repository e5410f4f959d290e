import type { PictureSize } from "@sdxs/runtime";
import { given, pictureSize, readCommandLine, wholeNumber } from "./command-line.js";
import { sizeName } from "./image-request.js";
import { MAX_PORT, imageServer } from "./image-server.js";
import { drawingOf, drawingOptions, drawingUsage, modelUsage, openPipeline } from "./open-pipeline.js";
import type { Terminal } from "./terminal.js";

export const serveUsage = `sdxs serve MODEL [options]

Answers POST /v1/images/generations as OpenAI's images API does, and GET /health, until it is interrupted or gets SIGTERM.
Prints its address once it is ready.
${modelUsage}

  --port N              default 8080; 0: any that is free
  --host ADDRESS        default 127.0.0.1: this machine alone. There is no authentication
  --allow-host NAME     by which requests may call the server in their Host, as behind a proxy; may be repeated; "*": any;
                        default: localhost, the --host, and the address that was connected to, so that no web page
                        reaches it by a name of its own (DNS rebinding)
  --size WxH            pixels that requests may ask for; may be repeated, the first is the default of requests;
                        default: what the model was trained on
  --max-images N        that one request may ask for; default 4
  --max-waiting N       requests that wait before others are refused; default 16
  --grace SECONDS       for requests under way when it is stopped; default 30
${drawingUsage}`;

/** Serves until the terminal's signal, then ends what is under way. */
export async function serve(args: readonly string[], terminal: Terminal): Promise<void> {
  const { values, operands } = readCommandLine("serve", args, ["MODEL"], {
    port: { type: "string", default: "8080" },
    host: { type: "string" },
    "allow-host": { type: "string", multiple: true },
    size: { type: "string", multiple: true },
    "max-images": { type: "string" },
    "max-waiting": { type: "string" },
    grace: { type: "string", default: "30" },
    ...drawingOptions,
  });
  const port = wholeNumber("--port", values.port, 0, MAX_PORT);
  const graceMs = 1000 * wholeNumber("--grace", values.grace, 0);
  const asked = values.size?.map((text) => pictureSize("--size", text));
  const limits = {
    ...given("maxImages", values["max-images"], (text) => wholeNumber("--max-images", text, 1)),
    ...given("maxWaiting", values["max-waiting"], (text) => wholeNumber("--max-waiting", text, 0)),
  };
  const { signal } = terminal;

  const { pipeline } = await openPipeline(operands[0]!, terminal, drawingOf(values));
  try {
    // A picture of each size compiles its networks before the first request, and tells the default size.
    const sizes: PictureSize[] = [];
    for (const size of asked ?? [{}]) {
      const { images } = await pipeline.generate("", { ...size, signal });
      const [, , height = 0, width = 0] = images.shape;
      sizes.push({ width, height });
    }
    const server = imageServer({ pipeline, sizes, ...limits, hosts: values["allow-host"] ?? [], log: terminal.note });
    const { url } = await server.listen(port, values.host);
    terminal.note(`sdxs: serving pictures of ${sizes.map(sizeName).join(", ")}`);
    terminal.out(url);
    await new Promise((resolve) => signal.addEventListener("abort", resolve, { once: true }));
    terminal.note("sdxs: stopping");
    await server.close(graceMs);
  } finally {
    await pipeline.dispose();
  }
}
