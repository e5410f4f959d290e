import { InvalidArgumentError, SdxsError } from "@sdxs/tensor";

/** A file's expected hash, with its source. */
export interface Digest {
  readonly algorithm: keyof typeof LENGTHS;
  /** In lower case. */
  readonly hex: string;
  /** The source, for messages. */
  readonly from: string;
}

/** Hexadecimal digits of each hash. */
const LENGTHS = { "SHA-256": 64, "SHA-512": 128, "SHA-1": 40, MD5: 32, "git's SHA-1": 40 } as const;

/** What HTTP's headers call them: RFC 9530, and RFC 3230 before it. */
const HTTP_NAMES: Readonly<Record<string, Digest["algorithm"]>> = {
  "sha-256": "SHA-256",
  "sha-512": "SHA-512",
  sha: "SHA-1",
  md5: "MD5",
};

/** Of the headers of an answer. */
type Header = (name: string) => string | null;

/**
 * The hash by which the hub, and git below it, name a file's content: SHA-256 of large files, git's SHA-1 of others.
 *
 * @param etag "X-Linked-ETag" or "ETag" of an answer of the hub
 */
export function hubDigest(etag: string | null): Digest[] {
  const hex = plainTag(etag) ?? "";
  const from = "the hub's ETag";
  if (/^[0-9a-f]{64}$/.test(hex)) return [{ algorithm: "SHA-256", hex, from }];
  if (/^[0-9a-f]{40}$/.test(hex)) return [{ algorithm: "git's SHA-1", hex, from }];
  return [];
}

/** An ETag without its quotation marks, and whether it is weak. */
export const plainTag = (etag: string | null): string | undefined =>
  etag?.replace(/^W\//, "").replace(/^"(.*)"$/, "$1");

/**
 * The hashes of a file that the headers of an answer with all of it tell: Repr-Digest and Content-Digest (RFC 9530), Digest (RFC 3230)
 * and Content-MD5. Of what comes compressed, they are those of the compressed bytes, which are not accessible.
 */
export function headerDigests(header: Header): Digest[] {
  if (header("content-encoding") !== null) return [];
  const listed = ["Repr-Digest", "Content-Digest", "Digest"].flatMap((from) =>
    [...(header(from) ?? "").matchAll(/([\w-]+)=:?([A-Za-z0-9+/]+=*):?/g)].map(([, name = "", base64 = ""]) => ({
      algorithm: HTTP_NAMES[name.toLowerCase()],
      hex: toHex(base64),
      from,
    })),
  );
  const md5 = { algorithm: "MD5", hex: toHex(header("content-md5") ?? ""), from: "Content-MD5" } as const;
  return [...listed, md5].flatMap(({ algorithm, hex, from }) =>
    algorithm !== undefined && hex?.length === LENGTHS[algorithm] ? [{ algorithm, hex, from }] : [],
  );
}

/** Undefined for what is no base64. */
function toHex(base64: string): string | undefined {
  try {
    return hexOf(Uint8Array.from(atob(base64), (character) => character.charCodeAt(0)));
  } catch {
    return undefined;
  }
}

const hexOf = (bytes: Uint8Array): string => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");

/**
 * Compares a file with its expected hashes.
 *
 * @throws SdxsError MALFORMED_FILE that names the file and both hashes.
 */
export async function checkDigests(
  url: string,
  bytes: Uint8Array<ArrayBuffer>,
  digests: readonly Digest[],
): Promise<void> {
  for (const { algorithm, hex, from } of digests) {
    const actual = await digestOf(algorithm, bytes);
    if (actual === undefined || actual === hex) continue;
    throw new SdxsError(
      "MALFORMED_FILE",
      `${url} arrived damaged: its ${algorithm} is ${actual}, ${from} is ${hex}. Fetch it again.`,
    );
  }
}

/** The SHA-256 that a caller gives for a file. Throws `InvalidArgumentError` for what is none. */
export function givenDigest(name: string, hex: string): Digest {
  if (!/^[0-9a-f]{64}$/i.test(hex)) {
    throw new InvalidArgumentError(`sha256["${name}"] must be 64 hexadecimal digits, got ${JSON.stringify(hex)}.`);
  }
  return { algorithm: "SHA-256", hex: hex.toLowerCase(), from: "the option sha256" };
}

/** Whether the platform has hashes: pages that come neither by https nor from localhost do not. */
export const canHash = (): boolean => subtle() !== undefined;

const subtle = (): SubtleCrypto | undefined => (globalThis.crypto as { subtle?: SubtleCrypto }).subtle;

/** A hash in hexadecimal digits. Undefined where the platform cannot compute it. */
export async function digestOf(
  algorithm: Digest["algorithm"],
  bytes: Uint8Array<ArrayBuffer>,
): Promise<string | undefined> {
  if (algorithm === "MD5") return md5(bytes);
  const digest = async (name: string, content: Uint8Array<ArrayBuffer>): Promise<string | undefined> => {
    const hash = await subtle()?.digest(name, content);
    return hash && hexOf(new Uint8Array(hash));
  };
  if (algorithm !== "git's SHA-1") return digest(algorithm, bytes);
  const header = new TextEncoder().encode(`blob ${bytes.length}\0`);
  const blob = new Uint8Array(header.length + bytes.length);
  blob.set(header);
  blob.set(bytes, header.length);
  return digest("SHA-1", blob);
}

/** Browsers have no MD5, and few servers tell one. */
function md5(bytes: Uint8Array): string | undefined {
  const node = (globalThis as { process?: { getBuiltinModule?(name: string): typeof import("node:crypto") } }).process;
  return node?.getBuiltinModule?.("node:crypto").createHash("md5").update(bytes).digest("hex");
}
