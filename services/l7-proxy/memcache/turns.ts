/**
 * Our answers in the order of the client's commands. Many commands have no answer (`noreply`, quiet ones), so that answers cannot be counted:
 * in place of a denied command the server gets one that does nothing and always has an answer, and that answer is replaced by ours.
 * @module
 */
import { TURNS_MAX } from "./limits.ts";
import { MemcacheFormError } from "./verdict.ts";

/** The commands that do nothing and wait for their answers. */
export class Turns {
  /** Our answer; null: the client itself has sent such a command, and gets the server's. */
  readonly #waiting: (Uint8Array | null)[] = [];
  #first = 0;

  get size(): number {
    return this.#waiting.length - this.#first;
  }

  /** Takes note of one that is sent. @throws {MemcacheFormError} */
  add(answer: Uint8Array | null): void {
    if (this.size >= TURNS_MAX) throw new MemcacheFormError(`${TURNS_MAX} commands wait for their answers`);
    this.#waiting.push(answer);
  }

  /** Its answer has come: what takes its place, null: nothing does. @throws {MemcacheFormError} */
  next(): Uint8Array | null {
    if (this.size === 0) throw new MemcacheFormError("the server answers what nobody has asked");
    const answer = this.#waiting[this.#first++];
    if (this.#first > 256) this.#waiting.splice(0, this.#first), this.#first = 0;
    return answer;
  }
}
