/** One field of a message, as HPACK has it. @module */

const NAME = /^:?[-!#$%&'*+.^_`|~0-9a-z]+$/;
// What RFC 9113, 8.2.1 leaves of a value, and of that what RFC 9110 calls one: no controls, no blanks around it.
// deno-lint-ignore no-control-regex
const NO_VALUE = /[\x00-\x08\x0a-\x1f\x7f]|^[ \t]|[ \t]$/;

// A byte order mark stays: the server sees it too.
const decoder = new TextDecoder("utf-8", { ignoreBOM: true });

/** A field. */
export class HeaderField {
  /** As it is passed on, where that was worked out; of fields that come again. */
  encoded: Uint8Array | undefined;
  #isWell: boolean | undefined;

  /**
   * @param value one character for each byte
   * @param isSensitive no one may keep it in a table (RFC 7541, 7.1.3)
   * @param isKept the same object will be met again
   */
  constructor(
    readonly name: string,
    readonly value: string,
    readonly isSensitive = false,
    readonly isKept = false,
  ) {}

  /** Its part of a list's size. */
  get size(): number {
    return this.name.length + this.value.length + 32;
  }

  /** Name in lower case, and a value without what would end it elsewhere. */
  get isWell(): boolean {
    return this.#isWell ??= NAME.test(this.name) && !NO_VALUE.test(this.value);
  }

  /** The value as text: of bytes beyond ASCII UTF-8 is made, and of what is none U+FFFD, which no rule names. */
  get text(): string {
    const { value } = this;
    for (let at = 0; at < value.length; at++) {
      if (value.charCodeAt(at) < 128) continue;
      return decoder.decode(Uint8Array.from(value, (char) => char.charCodeAt(0)));
    }
    return value;
  }
}

/** The fields of one block. */
export interface HeaderList {
  readonly fields: readonly HeaderField[];
  /** More than the limits allow came; `fields` are the first ones. */
  readonly isTooLarge: boolean;
}
