import { setTimeout as sleep } from "node:timers/promises";
import { median } from "./statistics.js";

/** What a client does. */
export type ClientKind = "patient" | "impatient" | "wrong";

/** What came of all requests. */
export interface LoadReport {
  /** Requests by what became of them. */
  readonly outcomes: Readonly<Record<string, number>>;
  /** Requests that were refused for a full line, and sent again after the time that the answer named. */
  readonly refusals: number;
  /** What must not happen, in words. */
  readonly failures: readonly string[];
  /** Milliseconds from sending a request for the last time to its picture. */
  readonly medianMs: number;
  readonly slowestMs: number;
}

export interface LoadOptions {
  readonly requests: number;
  /** Clients, each of which sends its next request once the last one is done with. */
  readonly atOnce: number;
  /** Called after each request with the number of those that are done with. */
  readonly onDone?: (done: number) => Promise<void>;
}

/** Requests that no server should draw, and the status that answers them. */
const wrongRequests: readonly (readonly [body: string, status: number])[] = [
  ["", 400],
  ['{"prompt": "a red ap', 400],
  ["[".repeat(60_000), 400],
  ['{"n": 1}', 400],
  ['{"prompt": "a red apple", "n": 1000000}', 400],
  ['{"prompt": "a red apple", "size": "100000x100000"}', 400],
  [JSON.stringify({ prompt: "apple ".repeat(5000) }), 400],
  [JSON.stringify({ prompt: "apple ".repeat(500_000) }), 413],
];

/** Pictures that are asked for again and again, so that answers to different requests cannot be mistaken. */
const SUBJECTS = 20;
/** Impatient clients leave after up to so many milliseconds: chosen, from before they wait to after their picture. */
const LONGEST_PATIENCE_MS = 400;

/** Half of the clients are impatient, a tenth send what is wrong. */
export const kindOf = (request: number): ClientKind =>
  request % 2 === 0 ? "impatient" : request % 10 === 1 ? "wrong" : "patient";

/**
 * Sends requests to POST /v1/images/generations of `url`. Patient clients wait for their picture and come again when they are
 * told to; impatient ones break off; others send what is malformed or huge. What is sent depends on its number alone.
 */
export async function loadServer(url: string, { requests, atOnce, onDone }: LoadOptions): Promise<LoadReport> {
  const outcomes: Record<string, number> = {};
  const failures: string[] = [];
  const latencies: number[] = [];
  const pictures = new Map<string, string>(); // by request
  let refusals = 0;
  let sent = 0;
  let done = 0;

  const post = (body: string, signal: AbortSignal | null = null): Promise<Response> =>
    fetch(`${url}/v1/images/generations`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body,
      signal,
    });

  const patient = async (body: string): Promise<string> => {
    for (;;) {
      const begin = performance.now();
      const response = await post(body);
      const text = await response.text();
      if (response.status === 429) {
        refusals++;
        await sleep(1000 * Number(response.headers.get("retry-after")));
        continue;
      }
      if (response.status !== 200) throw new Error(`expected a picture, got ${response.status}: ${text}`);
      latencies.push(performance.now() - begin);
      const { data } = JSON.parse(text) as { readonly data: readonly { readonly b64_json: string }[] };
      const picture = data[0]?.b64_json ?? "";
      const known = pictures.get(body) ?? picture;
      if (picture === "" || picture !== known) throw new Error(`${body} gave another picture than before`);
      pictures.set(body, picture);
      return "picture drawn";
    }
  };

  const impatient = async (body: string, patienceMs: number): Promise<string> => {
    const signal = AbortSignal.timeout(patienceMs);
    try {
      const response = await post(body, signal);
      await response.arrayBuffer();
      return response.status === 200 ? "drawn before the client left" : "refused before the client left";
    } catch (error) {
      if (signal.aborted) return "client left";
      throw error;
    }
  };

  const wrong = async (request: number): Promise<string> => {
    const [body, status] = wrongRequests[Math.floor(request / 10) % wrongRequests.length]!;
    const response = await post(body);
    const text = await response.text();
    if (response.status !== status) throw new Error(`expected status ${status}, got ${response.status}: ${text}`);
    return `wrong request answered by ${status}`;
  };

  const send = (request: number): Promise<string> => {
    const subject = request % SUBJECTS;
    const body = JSON.stringify({ prompt: `apple number ${subject}`, seed: subject });
    switch (kindOf(request)) {
      case "patient":
        return patient(body);
      case "impatient":
        return impatient(body, 1 + ((37 * request) % LONGEST_PATIENCE_MS));
      case "wrong":
        return wrong(request);
    }
  };

  const client = async (): Promise<void> => {
    while (sent < requests) {
      const request = sent++;
      try {
        const outcome = await send(request);
        outcomes[outcome] = (outcomes[outcome] ?? 0) + 1;
      } catch (error) {
        failures.push(`request ${request}: ${String(error)}`);
      }
      await onDone?.(++done);
    }
  };
  await Promise.all(Array.from({ length: atOnce }, client));
  return { outcomes, refusals, failures, medianMs: median(latencies), slowestMs: Math.max(...latencies) };
}
