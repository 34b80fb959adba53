/** Records, encoded, as one message. @module */

/** Records of one batch. */
export const BATCH_RECORDS_MAX = 512;
/** Bytes of one batch, but for a single record that has more: far below what the flow exporter takes at once. */
export const BATCH_BYTES_MAX = 1024 * 1024;

const FIRST_BYTES = 16 * 1024;
/** Of the field `lost`, its tag and a number up to 2^53. */
const LOST_BYTES = 9, LOST_TAG = 2 << 3;

/** One L7RecordBatch that is being made. */
export class RecordBatch {
  count = 0;
  /** Bytes of its records. */
  length = 0;
  #bytes = new Uint8Array(FIRST_BYTES);

  /** It takes no other record of so many bytes. */
  isFullFor(bytes: number): boolean {
    return this.count >= BATCH_RECORDS_MAX || (this.count > 0 && this.length + bytes > BATCH_BYTES_MAX);
  }

  /** @param member a record with the tag and length that it has as a member; copied */
  add(member: Uint8Array): void {
    const length = this.length + member.length;
    if (length + LOST_BYTES > this.#bytes.length) {
      const grown = new Uint8Array(Math.max(length + LOST_BYTES, this.#bytes.length * 2));
      grown.set(this.#bytes.subarray(0, this.length));
      this.#bytes = grown;
    }
    this.#bytes.set(member, this.length);
    this.length = length;
    this.count++;
  }

  /** The message. @param lost records that nobody got, since the proxy started */
  message(lost: number): Uint8Array<ArrayBuffer> {
    const bytes = this.#bytes;
    let at = this.length;
    if (lost > 0) {
      bytes[at++] = LOST_TAG;
      for (; lost > 127; lost = Math.floor(lost / 128)) bytes[at++] = lost % 128 | 128;
      bytes[at++] = lost;
    }
    return bytes.subarray(0, at);
  }
}
