/**
 * What stands where there is nothing yet, nothing at all, or nothing more.
 * @module
 */
import type { ReactNode } from "react";
import type { ApiError } from "../data/api_client.ts";
import type { Answer } from "../data/use_answer.ts";
import { AlertIcon, BoxIcon } from "./icons.tsx";

export function Empty({ title, children, icon }: { title: string; children?: ReactNode; icon?: ReactNode }) {
  return (
    <div className="state">
      {icon ?? <BoxIcon />}
      <h2>{title}</h2>
      {children}
    </div>
  );
}

export function ErrorState({ error, again }: { error: ApiError; again?: () => void }) {
  return (
    <div className="state tone-dropped" role="alert">
      <span className="toned">
        <AlertIcon />
      </span>
      <h2>{error.message}</h2>
      {error.action !== "" && <p>{error.action}</p>}
      <p className="soft">
        <code>{error.code}</code>
      </p>
      {again && <button type="button" className="button" onClick={again}>Try again</button>}
    </div>
  );
}

/** Grey lines, as many as there will be about. */
export function Waiting({ lines = 4 }: { lines?: number }) {
  return (
    <div className="block" role="status" aria-label="Loading">
      {Array.from({ length: lines }, (_, i) => <div key={i} className="waiting" />)}
    </div>
  );
}

/** What stands for an answer that is not there: why, or grey lines while it comes. */
export function NotYet(
  { answer, lines }: { answer: Answer<unknown> & { readonly again: () => void }; lines: number },
) {
  if (answer.error && !answer.value) return <ErrorState error={answer.error} again={answer.again} />;
  return (
    <div className="pad">
      <Waiting lines={lines} />
    </div>
  );
}

export function Notice({ tone = "quiet", children, icon }: {
  tone?: "quiet" | "allowed" | "dropped" | "audited" | "error";
  children: ReactNode;
  icon?: ReactNode;
}) {
  return (
    <div className={`notice tone-${tone}`}>
      {icon ?? <AlertIcon />}
      <div className="grow">{children}</div>
    </div>
  );
}

/** An answer's error beside the older answer that is still shown. */
export function StaleNotice(
  { error, atMs, now }: { error: ApiError | undefined; atMs: number; now: number },
) {
  if (!error) return null;
  const seconds = Math.max(0, Math.round(now - atMs / 1000));
  return (
    <Notice tone="audited">
      <p>
        This is {seconds} s old: {error.message}
      </p>
      {error.action !== "" && <p>{error.action}</p>}
    </Notice>
  );
}
