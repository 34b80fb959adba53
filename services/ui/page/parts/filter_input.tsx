/**
 * The filter's line, with completion (a combobox as ARIA has it). What is typed takes effect with Enter, a chosen value, or when
 * the line is left.
 * @module
 */
import { type KeyboardEvent as ReactKeyboardEvent, useEffect, useId, useMemo, useRef, useState } from "react";
import { useNames } from "../data/session.ts";
import { completeFilter, readFilter } from "../model/filter_language.ts";
import { CrossIcon, SearchIcon } from "./icons.tsx";

export function FilterInput(
  { value, onChange, placeholder = "from-pod=shop/cart verdict=DROPPED not port=53" }: {
    value: string;
    onChange: (text: string) => void;
    placeholder?: string;
  },
) {
  const names = useNames();
  const [text, setText] = useState(value);
  const [cursor, setCursor] = useState(value.length);
  const [open, setOpen] = useState(false);
  const [active, setActive] = useState(-1);
  const input = useRef<HTMLInputElement>(null);
  const id = useId();
  useEffect(() => setText(value), [value]);
  const { fault } = useMemo(() => readFilter(text, names.parameters), [text, names]);
  const completion = useMemo(() => completeFilter(text, cursor, names), [text, cursor, names]);
  const options = open ? completion.options : [];

  const take = (next: string) => {
    if (readFilter(next, names.parameters).fault === undefined && next.trim() !== value) {
      onChange(next.trim());
    }
  };
  const choose = (index: number) => {
    const option = options[index];
    const put = option.kind === "value" ? `${option.text} ` : option.text;
    const next = text.slice(0, completion.from) + put + text.slice(cursor).replace(/^\S*\s*/, "");
    const at = completion.from + put.length;
    setText(next);
    setCursor(at);
    setActive(-1);
    setOpen(option.kind === "condition");
    requestAnimationFrame(() => input.current?.setSelectionRange(at, at));
    if (option.kind === "value") take(next);
  };
  const onKeyDown = (event: ReactKeyboardEvent) => {
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      event.preventDefault();
      if (!open) return setOpen(true);
      const step = event.key === "ArrowDown" ? 1 : -1;
      setActive((at) => options.length === 0 ? -1 : (at + step + options.length) % options.length);
    } else if (event.key === "Enter" || (event.key === "Tab" && active >= 0 && open)) {
      if (open && active >= 0) {
        event.preventDefault();
        return choose(active);
      }
      setOpen(false);
      take(text);
    } else if (event.key === "Escape") {
      if (open && options.length > 0) event.preventDefault();
      setOpen(false);
      setActive(-1);
    }
  };
  const edit = (element: HTMLInputElement) => {
    setText(element.value);
    setCursor(element.selectionStart ?? element.value.length);
    setActive(-1);
    setOpen(true);
  };
  return (
    <>
      <div className="filter" role="search">
        <SearchIcon />
        <input
          ref={input}
          className="field"
          role="combobox"
          aria-label="Filter"
          aria-expanded={options.length > 0}
          aria-controls={`${id}-options`}
          aria-autocomplete="list"
          aria-activedescendant={active >= 0 && options.length > 0 ? `${id}-${active}` : undefined}
          aria-invalid={fault !== undefined && !open}
          aria-describedby={`${id}-fault`}
          placeholder={placeholder}
          spellCheck={false}
          autoComplete="off"
          maxLength={2000}
          data-filter
          value={text}
          onChange={(event) => edit(event.currentTarget)}
          onSelect={(event) => setCursor(event.currentTarget.selectionStart ?? 0)}
          onFocus={() => setOpen(true)}
          onBlur={() => {
            setOpen(false);
            take(text);
          }}
          onKeyDown={onKeyDown}
        />
        {text !== "" && (
          <button
            type="button"
            className="button plain small square"
            aria-label="Clear filter"
            onClick={() => {
              setText("");
              onChange("");
            }}
          >
            <CrossIcon />
          </button>
        )}
        <div
          className="options"
          id={`${id}-options`}
          role="listbox"
          aria-label="Completions"
          hidden={options.length === 0}
        >
          {options.map((option, index) => (
            <div
              key={option.text}
              id={`${id}-${index}`}
              role="option"
              aria-selected={index === active}
              onMouseDown={(event) => event.preventDefault()}
              onClick={() => choose(index)}
            >
              <span className="cut">{option.text}</span>
              {option.kind === "condition" && <small>condition</small>}
            </div>
          ))}
        </div>
      </div>
      <p className="filter-fault" id={`${id}-fault`} hidden={!fault || open}>{fault?.text}</p>
    </>
  );
}
