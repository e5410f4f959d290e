const encoder = new TextEncoder();

/** The parts of a protocol buffer message that ONNX needs; `finish` joins them. */
export class MessageWriter {
  private readonly chunks: Uint8Array[] = [];
  private length = 0;

  /** An int32, int64 or enum field. */
  int(field: number, value: number): this {
    this.varint(field * 8);
    // Negative numbers are 64-bit two's complement, ten bytes long.
    return value >= 0 ? this.varint(value) : this.bigVarint(BigInt.asUintN(64, BigInt(value)));
  }

  float(field: number, value: number): this {
    this.varint(field * 8 + 5);
    return this.push(new Uint8Array(Float32Array.of(value).buffer));
  }

  text(field: number, value: string): this {
    return this.bytes(field, encoder.encode(value));
  }

  message(field: number, value: MessageWriter): this {
    this.varint(field * 8 + 2).varint(value.length);
    for (const chunk of value.chunks) this.push(chunk);
    return this;
  }

  bytes(field: number, value: Uint8Array): this {
    return this.varint(field * 8 + 2)
      .varint(value.length)
      .push(value);
  }

  finish(): Uint8Array<ArrayBuffer> {
    const result = new Uint8Array(this.length);
    let offset = 0;
    for (const chunk of this.chunks) {
      result.set(chunk, offset);
      offset += chunk.length;
    }
    return result;
  }

  private push(chunk: Uint8Array): this {
    this.chunks.push(chunk);
    this.length += chunk.length;
    return this;
  }

  private varint(value: number): this {
    const bytes: number[] = [];
    for (let rest = value; ; rest = Math.floor(rest / 128)) {
      if (rest < 128) {
        bytes.push(rest);
        return this.push(Uint8Array.from(bytes));
      }
      bytes.push((rest % 128) + 128);
    }
  }

  private bigVarint(value: bigint): this {
    const bytes: number[] = [];
    for (let rest = value; ; rest >>= 7n) {
      if (rest < 128n) {
        bytes.push(Number(rest));
        return this.push(Uint8Array.from(bytes));
      }
      bytes.push(Number(rest & 127n) + 128);
    }
  }
}
