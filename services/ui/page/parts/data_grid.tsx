/**
 * A table of any length: TanStack Table holds columns and order, TanStack Virtual the rows that are seen. One row has the focus;
 * arrows, Page Up and Down, Home and End move it, Enter opens.
 * @module
 */
import {
  columnSizingFeature,
  columnVisibilityFeature,
  createColumnHelper,
  createSortedRowModel,
  rowSortingFeature,
  tableFeatures,
  useTable,
} from "@tanstack/react-table";
import { useVirtualizer } from "@tanstack/react-virtual";
import {
  type KeyboardEvent as ReactKeyboardEvent,
  memo,
  type ReactNode,
  useEffect,
  useMemo,
  useRef,
  useState,
} from "react";
import { ChevronDownIcon } from "./icons.tsx";

/** One column. */
export interface GridColumn<T> {
  readonly id: string;
  readonly header: string;
  /** Pixels. */
  readonly width: number;
  /** Takes a share of what is left. */
  readonly grow?: number;
  readonly right?: boolean;
  readonly cell: (row: T) => ReactNode;
  /** What it is sorted by; without it, it cannot be. */
  readonly sort?: (row: T) => number | string;
}

export interface DataGridProps<T> {
  readonly label: string;
  readonly rows: readonly T[];
  readonly columns: readonly GridColumn<T>[];
  readonly rowKey: (row: T) => string;
  readonly rowHeight?: number;
  /** Ids of the columns that are shown; undefined: all. */
  readonly shown?: readonly string[];
  readonly selected?: string;
  readonly rowTone?: (row: T) => string;
  readonly onOpen: (row: T) => void;
  readonly initialSort?: { readonly id: string; readonly desc: boolean };
  /** Hears whether the first row is in view. */
  readonly onTop?: (top: boolean) => void;
}

const features = tableFeatures({
  columnSizingFeature,
  columnVisibilityFeature,
  rowSortingFeature,
  sortedRowModel: createSortedRowModel(),
});

interface Item {
  readonly row: unknown;
}

export function DataGrid<T>(props: DataGridProps<T>) {
  const { rows, columns, rowKey, rowHeight = 34, shown, onTop } = props;
  const helper = useMemo(() => createColumnHelper<typeof features, Item>(), []);
  const definitions = useMemo(
    () =>
      helper.columns(
        columns.map((column) =>
          helper.accessor((item: Item) => column.sort?.(item.row as T) ?? "", {
            id: column.id,
            header: column.header,
            size: column.width,
            enableSorting: column.sort !== undefined,
            sortFn: byValue,
            sortDescFirst: true,
          })
        ),
      ),
    [columns],
  );
  const data = useMemo(() => rows.map((row): Item => ({ row })), [rows]);
  const visibility = useMemo(
    () => Object.fromEntries(columns.map(({ id }) => [id, shown === undefined || shown.includes(id)])),
    [columns, shown],
  );
  const [sorting, setSorting] = useState(props.initialSort ? [props.initialSort] : []);
  const table = useTable({
    features,
    columns: definitions,
    data,
    state: { columnVisibility: visibility, sorting: sorting as { id: string; desc: boolean }[] },
    onSortingChange: setSorting as never,
    getRowId: (item: Item) => rowKey(item.row as T),
  });
  const byId = useMemo(() => new Map(columns.map((column) => [column.id, column])), [columns]);
  const visible = table.getVisibleLeafColumns().map((column) => byId.get(column.id)!);
  const template = visible.map(({ width, grow }) => grow ? `minmax(${width}px, ${grow}fr)` : `${width}px`)
    .join(" ");
  const least = visible.reduce((sum, { width }) => sum + width, 0);
  const scroll = useRef<HTMLDivElement>(null);
  const model = table.getRowModel().rows;
  const virtualizer = useVirtualizer({
    count: model.length,
    getScrollElement: () => scroll.current,
    estimateSize: () => rowHeight,
    overscan: 12,
    getItemKey: (index) => model[index].id,
  });
  const [current, setCurrent] = useState("");
  const index = Math.max(0, current === "" ? 0 : model.findIndex((row) => row.id === current));
  const wanted = useRef("");
  useEffect(() => {
    if (wanted.current === "") return;
    const element = scroll.current?.querySelector<HTMLElement>(`[data-key="${CSS.escape(wanted.current)}"]`);
    if (!element) return;
    wanted.current = "";
    element.focus({ preventScroll: true });
  });
  const go = (to: number) => {
    const target = model[Math.max(0, Math.min(model.length - 1, to))];
    if (!target) return;
    wanted.current = target.id;
    setCurrent(target.id);
    virtualizer.scrollToIndex(Math.max(0, Math.min(model.length - 1, to)));
  };
  const onKeyDown = (event: ReactKeyboardEvent) => {
    if (!(event.target as HTMLElement).matches("[data-key]")) return;
    const page = Math.max(1, Math.floor((scroll.current?.clientHeight ?? 300) / rowHeight) - 2);
    const to: Record<string, number> = {
      ArrowDown: index + 1,
      ArrowUp: index - 1,
      PageDown: index + page,
      PageUp: index - page,
      Home: 0,
      End: model.length - 1,
    };
    if (event.key in to) go(to[event.key]);
    else if (event.key === "Enter" || event.key === " ") props.onOpen(model[index].original.row as T);
    else return;
    event.preventDefault();
  };
  const top = useRef(true);
  return (
    <div
      className="grid scroll"
      role="grid"
      aria-label={props.label}
      aria-rowcount={model.length + 1}
      ref={scroll}
      onKeyDown={onKeyDown}
      onScroll={(event) => {
        const next = event.currentTarget.scrollTop < 4;
        if (next !== top.current) onTop?.(top.current = next);
      }}
    >
      <div className="grid-inner" style={{ minWidth: least }}>
        <div className="grid-head" role="row" aria-rowindex={1} style={{ gridTemplateColumns: template }}>
          {table.getVisibleLeafColumns().map((column) => {
            const own = byId.get(column.id)!;
            const sorted = column.getIsSorted();
            return (
              <div
                key={column.id}
                role="columnheader"
                className={own.right ? "right" : ""}
                aria-sort={sorted === "asc" ? "ascending" : sorted === "desc" ? "descending" : undefined}
              >
                {own.sort
                  ? (
                    <button type="button" onClick={column.getToggleSortingHandler()}>
                      {own.header}
                      <span className={`sort sort-${sorted || "none"}`}>
                        <ChevronDownIcon />
                      </span>
                    </button>
                  )
                  : own.header}
              </div>
            );
          })}
        </div>
        <div className="grid-body" role="rowgroup" style={{ height: virtualizer.getTotalSize() }}>
          {virtualizer.getVirtualItems().map((item) => {
            const row = model[item.index];
            const value = row.original.row as T;
            return (
              <GridRow
                key={row.id}
                id={row.id}
                index={item.index}
                start={item.start}
                height={rowHeight}
                template={template}
                columns={visible as readonly GridColumn<unknown>[]}
                value={value}
                tone={props.rowTone?.(value) ?? ""}
                selected={row.id === props.selected}
                tabbable={item.index === index}
                onOpen={props.onOpen as (row: unknown) => void}
                onFocus={setCurrent}
              />
            );
          })}
        </div>
      </div>
    </div>
  );
}

// deno-lint-ignore no-explicit-any
const byValue: any = (a: any, b: any, id: string): number => {
  const [x, y] = [a.getValue(id), b.getValue(id)];
  return typeof x === "number" && typeof y === "number" ? x - y : String(x).localeCompare(String(y));
};

interface GridRowProps {
  readonly id: string;
  readonly index: number;
  readonly start: number;
  readonly height: number;
  readonly template: string;
  readonly columns: readonly GridColumn<unknown>[];
  readonly value: unknown;
  readonly tone: string;
  readonly selected: boolean;
  readonly tabbable: boolean;
  readonly onOpen: (row: unknown) => void;
  readonly onFocus: (id: string) => void;
}

/** Two rows are the same to the eye when these are; the columns by their template, for a page makes them once. */
const GridRow = memo(
  function GridRow(props: GridRowProps) {
    return (
      <div
        role="row"
        className={`grid-row ${props.tone}`}
        aria-rowindex={props.index + 2}
        aria-selected={props.selected}
        tabIndex={props.tabbable ? 0 : -1}
        data-key={props.id}
        style={{
          gridTemplateColumns: props.template,
          height: props.height,
          transform: `translateY(${props.start}px)`,
        }}
        onClick={(event) => {
          if (!(event.target as HTMLElement).closest("a")) props.onOpen(props.value);
        }}
        onFocus={() => props.onFocus(props.id)}
      >
        {props.columns.map((column) => (
          <div key={column.id} role="gridcell" className={`cut${column.right ? " right number" : ""}`}>
            {column.cell(props.value)}
          </div>
        ))}
      </div>
    );
  },
  (a, b) =>
    a.id === b.id && a.index === b.index && a.start === b.start && a.template === b.template &&
    a.value === b.value &&
    a.selected === b.selected && a.tabbable === b.tabbable && a.onOpen === b.onOpen &&
    a.columns.length === b.columns.length &&
    a.tone === b.tone,
);
