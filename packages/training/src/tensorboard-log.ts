import { appendFile, mkdir } from "node:fs/promises";
import { hostname } from "node:os";
import { join } from "node:path";
import { fileFailure } from "./file-failure.js";
import type { MetricsSink } from "./metrics-log.js";

/**
 * Metrics as scalars in TensorBoard's event files, float32, one file in `folder` for each process that trains:
 * `tensorboard --logdir run` shows each folder under "run" as one run.
 *
 * Files are added to and never changed. `truncate` begins a new one that makes TensorBoard drop the steps that are
 * about to be repeated, also while it is running.
 *
 * @throws SdxsError with code FILE_FAILURE where the folder cannot be written.
 *
 * @example
 * await train(task, { log: joinLogs(csvLog("run/metrics.csv"), tensorBoardLog("run/events")) });
 */
export function tensorBoardLog(folder: string): MetricsSink {
  let path: string | undefined;

  const write = async (step: number, what: Uint8Array): Promise<void> => {
    const records = [record(event(integer(2, step), what))];
    try {
      if (path === undefined) {
        await mkdir(folder, { recursive: true });
        // TensorBoard reads a folder's files in the order of their names: the time has 13 digits until 2286.
        path = join(folder, `events.out.tfevents.${Date.now()}.${hostname()}.${process.pid}`);
        records.unshift(record(event(text(3, "brain.Event:2"))));
      }
      await appendFile(path, Buffer.concat(records));
    } catch (cause) {
      fileFailure("tensorBoardLog", path ?? folder, cause);
    }
  };

  return {
    async append({ step, metrics }) {
      const values = Object.entries(metrics).map(([tag, value]) => message(1, text(1, tag), float(2, value)));
      await write(step, message(5, ...values));
    },
    async truncate(step) {
      path = undefined;
      await write(step + 1, message(7, integer(1, SESSION_START)));
    },
  };
}

// ---------------------------------------------------------------------------------------------------------------------
// Messages: event.proto and summary.proto of https://github.com/tensorflow/tensorboard/tree/master/tensorboard/compat/proto

/** SessionLog.SessionStatus: events of this and later steps that came before are void. */
const SESSION_START = 1;

/** An Event of now, in seconds since 1970. */
function event(...fields: readonly Uint8Array[]): Uint8Array {
  const time = Buffer.alloc(9, 8 * 1 + 1); // field 1, 64 bits
  time.writeDoubleLE(Date.now() / 1000, 1);
  return Buffer.concat([time, ...fields]);
}

function integer(field: number, value: number): Uint8Array {
  return Uint8Array.of(8 * field, ...varint(value));
}

function float(field: number, value: number): Uint8Array {
  const bytes = Buffer.alloc(5, 8 * field + 5); // 32 bits
  bytes.writeFloatLE(value, 1);
  return bytes;
}

function text(field: number, value: string): Uint8Array {
  return message(field, Buffer.from(value));
}

function message(field: number, ...parts: readonly Uint8Array[]): Uint8Array {
  const content = Buffer.concat(parts);
  return Buffer.concat([Uint8Array.of(8 * field + 2, ...varint(content.length)), content]);
}

/** Seven bits a byte, the lowest first. */
function varint(value: number): number[] {
  return value < 128 ? [value] : [(value % 128) + 128, ...varint(Math.floor(value / 128))];
}

// ---------------------------------------------------------------------------------------------------------------------
// Records: https://www.tensorflow.org/tutorials/load_data/tfrecord#tfrecords_format_details

/** The length in 64 bits, its checksum, the data, its checksum; little endian. */
function record(data: Uint8Array): Uint8Array {
  const header = Buffer.alloc(12);
  header.writeBigUInt64LE(BigInt(data.length));
  header.writeUInt32LE(maskedChecksum(header.subarray(0, 8)), 8);
  const footer = Buffer.alloc(4);
  footer.writeUInt32LE(maskedChecksum(data));
  return Buffer.concat([header, data, footer]);
}

/** CRC32C of data, rotated by 15 bits and shifted, so that checksums of checksums differ. */
function maskedChecksum(data: Uint8Array): number {
  const crc = crc32c(data);
  return (((crc >>> 15) | (crc << 17)) + 0xa282ead8) >>> 0;
}

/** The cyclic redundancy check of Castagnoli's polynomial, RFC 3720 Appendix B.4. Bit by bit: events are small. */
function crc32c(data: Uint8Array): number {
  let crc = ~0;
  for (const byte of data) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0x82f63b78 : 0);
  }
  return ~crc >>> 0;
}
