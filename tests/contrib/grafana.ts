// What a dashboard may consist of, by the types of Grafana's own package; test_grafana.py adds the dashboard and has it checked.
import type { AnnotationQuery, Dashboard } from '@grafana/schema';
import type * as table from './node_modules/@grafana/schema/dist/esm/raw/composable/table/panelcfg/x/TablePanelCfg_types.gen';
import type * as timeseries from './node_modules/@grafana/schema/dist/esm/raw/composable/timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen';

// JSON has the values of an enumeration, and not its names.
type Plain<T> = 0 extends 1 & T
  ? unknown
  : T extends string
    ? `${T}`
    : T extends number
      ? number extends T
        ? number
        : `${T}` extends `${infer N extends number}`
          ? N
          : never
      : T extends (infer U)[]
        ? Plain<U>[]
        : T extends object
          ? { [K in keyof T]: Plain<T[K]> }
          : T;

// Options have defaults: none is needed. Those that are there must be known.
type Options<T> = { [K in keyof Plain<T>]?: Plain<T>[K] };

// Grafana's types leave out what a data source reads of an annotation.
type Annotation = AnnotationQuery & { expr: string; step: string; titleFormat: string; textFormat: string };

export type Checked = Plain<Omit<Dashboard, 'annotations'>> & { annotations: { list: Plain<Annotation>[] } };
export type Of = {
  table: { options: Options<table.Options>; custom: Options<table.FieldConfig> };
  timeseries: { options: Options<timeseries.Options>; custom: Options<timeseries.FieldConfig> };
};
