/**
 * A button that opens a few choices below it; Escape, or a press elsewhere, closes them.
 * @module
 */
import { type ReactNode, useEffect, useId, useRef, useState } from "react";
import { ChevronDownIcon } from "./icons.tsx";

export function Menu({ label, icon, children }: { label: string; icon?: ReactNode; children: ReactNode }) {
  const [open, setOpen] = useState(false);
  const root = useRef<HTMLDivElement>(null);
  const button = useRef<HTMLButtonElement>(null);
  const id = useId();
  useEffect(() => {
    if (!open) return;
    const onPress = (event: PointerEvent) =>
      root.current?.contains(event.target as Element) || setOpen(false);
    const onKey = (event: KeyboardEvent) => {
      if (event.key !== "Escape") return;
      event.preventDefault();
      setOpen(false);
      button.current?.focus();
    };
    addEventListener("pointerdown", onPress);
    addEventListener("keydown", onKey, true);
    return () => {
      removeEventListener("pointerdown", onPress);
      removeEventListener("keydown", onKey, true);
    };
  }, [open]);
  return (
    <div className="menu" ref={root}>
      <button
        ref={button}
        type="button"
        className="button"
        aria-expanded={open}
        aria-controls={id}
        onClick={() => setOpen(!open)}
      >
        {icon}
        {label}
        <ChevronDownIcon />
      </button>
      <div className="menu-body" id={id} role="group" aria-label={label} hidden={!open}>{children}</div>
    </div>
  );
}
