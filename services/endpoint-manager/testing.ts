/** Sources that tests write. @module */
import type { ChangeListener, Mirror } from "./ports.ts";

/** A collection in memory whose mirrors hear of each change. */
export class ChangeTable<T> {
  readonly rows = new Map<string, T>();
  synced = true;
  private readonly listeners = new Set<ChangeListener<T>>();

  put(name: string, row: T): void {
    const previous = this.rows.get(name);
    this.rows.set(name, row);
    for (const listener of this.listeners) listener.onChange(name, row, previous);
  }

  delete(name: string): void {
    const previous = this.rows.get(name);
    if (!this.rows.delete(name)) return;
    for (const listener of this.listeners) listener.onChange(name, undefined, previous);
  }

  /** Everything that exists was received. */
  sync(): void {
    this.synced = true;
    for (const listener of this.listeners) listener.onSynced();
  }

  /** A mirror, which is told of what is there first. */
  mirror(listener: ChangeListener<T>): Mirror<T> & Disposable {
    this.listeners.add(listener);
    const isSynced = () => this.synced;
    queueMicrotask(() => {
      for (const [name, row] of this.rows) listener.onChange(name, row, undefined);
      if (this.synced) listener.onSynced();
    });
    return {
      get synced() {
        return isSynced();
      },
      values: () => this.rows.values(),
      get: (name) => this.rows.get(name),
      [Symbol.dispose]: () => void this.listeners.delete(listener),
    };
  }
}
