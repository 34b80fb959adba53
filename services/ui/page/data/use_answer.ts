/**
 * One question's answer in a component: loading, there, stale, or why not.
 * @module
 */
import { useEffect, useState } from "react";
import { ApiError, fetchJson } from "./api_client.ts";

/** An answer, and how good it is. */
export interface Answer<T> {
  /** The last one that came; kept while a newer one is asked for. */
  readonly value: T | undefined;
  /** Why there is none, or no newer one. */
  readonly error: ApiError | undefined;
  readonly loading: boolean;
  /** When `value` came, ms. */
  readonly atMs: number;
}

const NOTHING: Answer<never> = { value: undefined, error: undefined, loading: true, atMs: 0 };

/**
 * @param url null: nothing is asked.
 * @param everyMs Ask again so long after each answer; 0: once. A page that is not seen asks nothing.
 */
export function useAnswer<T>(url: string | null, everyMs = 0): Answer<T> & { readonly again: () => void } {
  const [answer, setAnswer] = useState<Answer<T> & { url?: string | null }>(NOTHING);
  const [turn, setTurn] = useState(0);
  useEffect(() => {
    if (url === null) return;
    const ending = new AbortController();
    let timer: ReturnType<typeof setTimeout> | undefined;
    const ask = async () => {
      if (document.hidden) return void (timer = setTimeout(ask, 1000));
      try {
        const value = await fetchJson<T>(url, ending.signal);
        if (ending.signal.aborted) return;
        setAnswer({ value, error: undefined, loading: false, atMs: Date.now(), url });
      } catch (error) {
        if (ending.signal.aborted) return;
        const known = error instanceof ApiError
          ? error
          : new ApiError({ status: 0, code: "PAGE", detail: String(error) });
        setAnswer((old) => ({
          ...old,
          value: old.url === url ? old.value : undefined,
          error: known,
          loading: false,
          url,
        }));
      }
      if (everyMs > 0) timer = setTimeout(ask, everyMs);
    };
    setAnswer((old) => old.url === url ? { ...old, loading: old.value === undefined } : { ...NOTHING, url });
    ask();
    return () => {
      ending.abort();
      clearTimeout(timer);
    };
  }, [url, everyMs, turn]);
  // Of another question: not shown for a moment under the new one's name.
  const own = answer.url === url ? answer : NOTHING;
  return { ...own, again: () => setTurn((n) => n + 1) };
}
