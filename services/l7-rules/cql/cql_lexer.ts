/**
 * Words of a CQL statement, cut where Cassandra's own lexer cuts them. Where two lexers could disagree about the end of
 * a word (a number with letters behind it, `-nan` grown into a name), the text is refused: a statement that hides behind
 * such a place would be judged as another than the server runs.
 * @module
 */

/** What a token is. `Name` is a word without quotes, keywords too; `Quoted` one in double quotes; `Other` any constant. */
export const TokenKind = { End: 0, Name: 1, Quoted: 2, Other: 3, Mark: 4 } as const;
export type TokenKind = typeof TokenKind[keyof typeof TokenKind];

/** A statement that cannot be read, or not in one way only. `message` says what was found, and where. */
export class CqlError extends Error {
  override name = "CqlError";
}

/** Tokens of one text; far more than a statement has whose long values are bound. */
export const TOKENS_MAX = 100_000;

const UUID = /[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}/iy;
const HEX = /0[xX][0-9a-fA-F]*/y;
const DURATION = /(?:\d+(?:mo|ms|us|µs|ns|[ywdhms]))+/iy;
const NUMBER = /\d+(?:\.\d*)?(?:[eE][+-]?\d+)?/y;
/** A duration in ISO 8601's form with a date and a time, and with designators; the second is a word by its characters. */
const ISO_MOMENT = /P\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d/y;
const ISO_DURATION_START = /^P(?:\d+[YMDW]|T\d+[HMS])/;
const ISO_DURATION = /^P(?:\d+W|(?:\d+Y)?(?:\d+M)?(?:\d+D)?(?:T(?:\d+H)?(?:\d+M)?(?:\d+S)?)?)$/;
const WORD = /[A-Za-z0-9_]+/y;
/** Constants that the lexer joins with a minus before them. */
const NEGATIVE_WORD = /^(?:nan|infinity)./;

const MARKS = new Set("(),.:;=<>!+-*/%[]{}?@");

/** Cuts a text into tokens, one at a time. */
export class CqlLexer {
  /** Of the newest token: its kind. */
  kind: TokenKind = TokenKind.End;
  /** A name in lower case, a quoted name without its quotes, a mark; "" of constants and at the end. */
  value = "";
  #at = 0;
  #count = 0;

  constructor(readonly text: string) {}

  /** Reads the next token into `kind` and `value`. Throws {@link CqlError}. */
  next(): void {
    if (++this.#count > TOKENS_MAX) throw new CqlError(`it has over ${TOKENS_MAX} words and constants`);
    this.#skip();
    const { text } = this;
    if (this.#at >= text.length) return this.#found(TokenKind.End, "", this.#at);
    const code = text.charCodeAt(this.#at);
    if (isDigit(code) || isLetter(code)) return this.#word();
    const character = text[this.#at];
    if (character === "'") return this.#string();
    if (character === '"') return this.#quotedName();
    if (character === "$") return this.#dollarString();
    if (!MARKS.has(character)) throw this.#error(`character ${JSON.stringify(character)}`);
    if (character === "-") this.#checkNegative();
    this.#found(TokenKind.Mark, character, this.#at + 1);
  }

  #found(kind: TokenKind, value: string, end: number): void {
    this.kind = kind;
    this.value = value;
    this.#at = end;
  }

  /** Blanks and comments. A comment of one line may end with the text: the server refuses it, and it hides nothing. */
  #skip(): void {
    const { text } = this;
    for (;;) {
      const code = text.charCodeAt(this.#at);
      if (code === 0x20 || code === 0x09 || code === 0x0a || code === 0x0d) {
        this.#at++;
      } else if (text.startsWith("--", this.#at) || text.startsWith("//", this.#at)) {
        while (this.#at < text.length && text[this.#at] !== "\n" && text[this.#at] !== "\r") this.#at++;
      } else if (text.startsWith("/*", this.#at)) {
        const end = text.indexOf("*/", this.#at + 2);
        if (end < 0) throw this.#error("a comment without its end");
        this.#at = end + 2;
      } else {
        return;
      }
    }
  }

  /** Names and constants that begin with a letter or a digit: each must end where no letter or digit follows. */
  #word(): void {
    const start = this.#at;
    const digit = isDigit(this.text.charCodeAt(start));
    for (const form of digit ? [UUID, HEX, DURATION, NUMBER] : [UUID, ISO_MOMENT]) {
      const end = this.#match(form, start);
      if (end > start && !isWordCharacter(this.text.charCodeAt(end))) {
        return this.#found(TokenKind.Other, "", end);
      }
    }
    const end = this.#match(WORD, start);
    const word = this.text.slice(start, end);
    if (digit || this.#match(UUID, start) > start || this.#match(ISO_MOMENT, start) > start) {
      throw this.#error(`${JSON.stringify(word.slice(0, 40))}, a constant that goes on as a word`);
    }
    if (ISO_DURATION_START.test(word) && !ISO_DURATION.test(word)) {
      throw this.#error(`${JSON.stringify(word.slice(0, 40))}, a duration that goes on as a word`);
    }
    this.#found(TokenKind.Name, word.toLowerCase(), end);
  }

  #checkNegative(): void {
    const end = this.#match(WORD, this.#at + 1);
    if (end > this.#at && NEGATIVE_WORD.test(this.text.slice(this.#at + 1, end).toLowerCase())) {
      throw this.#error(
        `${JSON.stringify(this.text.slice(this.#at, end).slice(0, 40))}, a constant that goes on as a word`,
      );
    }
  }

  #string(): void {
    let end = this.#at + 1;
    for (;; end += 2) {
      end = this.text.indexOf("'", end);
      if (end < 0) throw this.#error("a string without its end");
      if (this.text[end + 1] !== "'") return this.#found(TokenKind.Other, "", end + 1);
    }
  }

  #dollarString(): void {
    if (this.text[this.#at + 1] !== "$") throw this.#error('character "$"');
    const end = this.text.indexOf("$$", this.#at + 2);
    if (end < 0) throw this.#error("a string in $$ without its end");
    this.#found(TokenKind.Other, "", end + 2);
  }

  #quotedName(): void {
    const start = this.#at + 1;
    let end = start;
    for (;; end += 2) {
      end = this.text.indexOf('"', end);
      if (end < 0) throw this.#error("a quoted name without its end");
      if (this.text[end + 1] !== '"') break;
    }
    if (end === start) throw this.#error("a quoted name without a letter");
    this.#found(TokenKind.Quoted, this.text.slice(start, end).replaceAll('""', '"'), end + 1);
  }

  /** Where the form ends that begins at `start`; -1: it does not begin there. */
  #match(form: RegExp, start: number): number {
    form.lastIndex = start;
    return form.test(this.text) ? form.lastIndex : -1;
  }

  #error(found: string): CqlError {
    return new CqlError(`at character ${this.#at + 1} stands ${found}`);
  }
}

function isDigit(code: number): boolean {
  return code >= 0x30 && code <= 0x39;
}

function isLetter(code: number): boolean {
  return (code >= 0x41 && code <= 0x5a) || (code >= 0x61 && code <= 0x7a);
}

function isWordCharacter(code: number): boolean {
  return isDigit(code) || isLetter(code) || code === 0x5f || code === 0xb5;
}
