/**
 * What opens on the right: more about one thing. Escape closes it, and the focus goes back to where it was.
 * @module
 */
import { type ReactNode, useEffect, useRef } from "react";
import { CrossIcon } from "./icons.tsx";

export function Panel({ title, over, badges, onClose, children, identity }: {
  title: ReactNode;
  /** Small line above the title. */
  over?: ReactNode;
  badges?: ReactNode;
  /** Another one scrolls back to the top. */
  identity: string;
  onClose: () => void;
  children: ReactNode;
}) {
  const body = useRef<HTMLDivElement>(null);
  const close = useRef(onClose);
  close.current = onClose;
  useEffect(() => {
    const before = document.activeElement;
    const onKey = (event: KeyboardEvent) => {
      if (event.key !== "Escape" || event.defaultPrevented) return;
      close.current();
      if (before instanceof HTMLElement && before.isConnected) before.focus();
    };
    addEventListener("keydown", onKey);
    return () => removeEventListener("keydown", onKey);
  }, []);
  useEffect(() => body.current?.scrollTo(0, 0), [identity]);
  return (
    <aside className="panel" aria-label="Details">
      <header className="panel-head">
        <div className="grow block">
          {over && <p className="over">{over}</p>}
          <h2>{title}</h2>
          {badges && <div className="chips">{badges}</div>}
        </div>
        <button type="button" className="button plain square" aria-label="Close details" onClick={onClose}>
          <CrossIcon />
        </button>
      </header>
      <div className="panel-body scroll" ref={body} tabIndex={0} role="group" aria-label="Details">
        {children}
      </div>
    </aside>
  );
}

export function Block({ title, end, children }: { title: ReactNode; end?: ReactNode; children: ReactNode }) {
  return (
    <section className="block">
      <div className="block-head">
        <h3>{title}</h3>
        {end}
      </div>
      {children}
    </section>
  );
}
