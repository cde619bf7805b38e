-- What is recorded, one row per fact. Every row also names the record of the ledger
-- that it came from. Where two records state the same fact, the later one counts.

CREATE TABLE ingested (
    record VARCHAR     -- name of a record of the ledger whose rows are below
);

CREATE TABLE experiments (     -- key: experiment, definition
    experiment VARCHAR,        -- its name
    definition VARCHAR,        -- digest of what its file means; views use the latest
    suite VARCHAR,             -- tasks and data
    document JSON,             -- the experiment file, defaults spelt out
    git_commit VARCHAR,
    git_dirty BOOLEAN,         -- whether the code differed from that commit
    versions JSON,             -- package to version
    recorded_at VARCHAR,       -- ISO 8601, UTC
    record VARCHAR
);

CREATE TABLE cells (           -- key: experiment, definition, cell
    experiment VARCHAR,
    definition VARCHAR,
    cell VARCHAR,              -- key of the step that scored it
    kind VARCHAR,              -- merged; per_task: into a model for each task; or
                               -- reference: nothing was merged
    method VARCHAR,            -- or pretrained, individual, multitask
    method_version BIGINT,
    options JSON,              -- every option with its value
    swept JSON,                -- those of them that vary in the grid
    experts VARCHAR[],         -- tasks whose experts were merged
    size BIGINT,               -- how many they are
    sample BIGINT,             -- nested sample that the subset belongs to; 0: none
    seed BIGINT,
    record VARCHAR
);

CREATE TABLE scores (          -- key: cell, task, split, metric
    cell VARCHAR,
    task VARCHAR,
    split VARCHAR,             -- validation chooses options, test is reported
    metric VARCHAR,
    role VARCHAR,              -- held_in: an expert was trained on it; generalization
    correct DOUBLE,            -- examples answered correctly, or the sum of a score
    examples BIGINT,
    value DOUBLE,              -- correct / examples, in [0, 1]
    standard_error DOUBLE,     -- of value, binomial
    record VARCHAR
);

CREATE TABLE costs (           -- key: step, stage
    step VARCHAR,              -- key of a step or cell
    stage VARCHAR,             -- pretrain, train, fisher, gram, ..., merge, evaluate
    seconds DOUBLE,            -- wall clock
    flops DOUBLE,              -- floating-point operations, a multiply-add is two
    paper_flops DOUBLE,        -- by Table 3 of the Realistic Evaluation paper
    bytes_read DOUBLE,
    bytes_written DOUBLE,
    peak_memory DOUBLE,        -- bytes
    paper_memory DOUBLE,       -- the same by eq. 6 of the SuperMerge paper
    examples DOUBLE,           -- seen, counting repetitions
    labelled DOUBLE,           -- different examples whose labels were used
    unlabelled DOUBLE,         -- different examples of which inputs alone were used
    device VARCHAR,
    git_commit VARCHAR,
    git_dirty BOOLEAN,
    versions JSON,
    recorded_at VARCHAR,
    record VARCHAR
);

CREATE TABLE artifacts (       -- key: artifact
    artifact VARCHAR,          -- key of the step that made it
    step VARCHAR,              -- what the step does
    version BIGINT,            -- of the step
    inputs JSON,
    bytes DOUBLE,
    digest VARCHAR,            -- payload to SHA-256
    created_at VARCHAR,
    record VARCHAR
);

CREATE TABLE lineage (         -- key: child, parent
    child VARCHAR,             -- key of a step or cell that was made from...
    parent VARCHAR,            -- ... this step
    record VARCHAR
);

CREATE TABLE coefficients (    -- key: step, task, parameter
    step VARCHAR,              -- key of the step that learned them
    task VARCHAR,              -- whose expert's task vector is multiplied
    parameter VARCHAR,
    place BIGINT,              -- in the model's order, from 0
    layer_kind VARCHAR,        -- embedding, attention, cross-attention, feed-forward,
                               -- norm, other
    depth BIGINT,              -- its layer, from 0; NULL outside the layers
    layers BIGINT,             -- how many there are in its stack
    value DOUBLE,              -- the coefficient
    record VARCHAR
);

CREATE TABLE learning (        -- key: step, node, updates
    step VARCHAR,              -- key of the step that learned
    node VARCHAR,              -- part of the tree that was learned; '': no tree, or root
    updates BIGINT,            -- made so far
    loss DOUBLE,               -- mean of the updates since the look before
    held_out DOUBLE,           -- mean loss on examples that were held out
    labels DOUBLE,             -- least share of the labels that a task was answered with
                               -- at the start
    collapsed VARCHAR[],       -- tasks answered with too few of them at the end
    trained BIGINT,            -- numbers that were learned altogether
    together BIGINT,           -- most task vectors that were multiplied at a time
    record VARCHAR
);

CREATE TABLE profiles (        -- key: experiment, definition, profile
    experiment VARCHAR,
    definition VARCHAR,
    profile VARCHAR,           -- key of the step that looked at task vectors
    kind VARCHAR,              -- distribution: of one expert's; profile: of several
    experts VARCHAR[],         -- tasks whose experts they are
    size BIGINT,               -- how many they are
    sample BIGINT,             -- nested sample that they belong to; 0: none
    record VARCHAR
);

CREATE TABLE task_vectors (    -- key: profile, parameter
    profile VARCHAR,
    parameter VARCHAR,
    place BIGINT,              -- in the model's order, from 0
    layer_kind VARCHAR,        -- embedding, attention, cross-attention, feed-forward,
                               -- norm, other
    depth BIGINT,              -- its layer, from 0; NULL outside the layers
    layers BIGINT,             -- how many there are in its stack
    entries BIGINT,
    unchanged BIGINT,          -- entries that are zero
    norm DOUBLE,               -- L2
    mean DOUBLE,
    deviation DOUBLE,          -- standard deviation of the entries
    magnitude DOUBLE,          -- mean of their magnitudes
    quantiles DOUBLE[],        -- at 0, 0.5, 1, 2.5, 5, 10, ... 95, 97.5, 99, 99.5, 100 %
    record VARCHAR
);

CREATE TABLE conflicts (       -- key: profile, density
    profile VARCHAR,
    density DOUBLE,            -- fraction of each task vector's entries kept; 1: all
    entries BIGINT,
    redundant BIGINT,          -- zero in every task vector
    conflicting BIGINT,        -- positive in one task vector and negative in another
    kept BIGINT,               -- not zero, over all task vectors
    outvoted BIGINT,           -- those of them whose sign is not the elected one
    record VARCHAR
);

CREATE TABLE magnitudes (      -- key: profile, density, grouping, level, merging
    profile VARCHAR,
    density DOUBLE,            -- of what is trimmed
    grouping VARCHAR,          -- all; kept_by: number of experts that keep an entry;
                               -- agreement: share of the more frequent sign
    level DOUBLE,              -- that number, or share
    merging VARCHAR,           -- average, trimmed, elected, both
    entries BIGINT,
    mean DOUBLE,               -- of the merged entries' magnitudes
    deviation DOUBLE,          -- their standard deviation
    record VARCHAR
);

CREATE TABLE agreements (      -- key: profile, merge_by, density, mask_threshold, tasks
    profile VARCHAR,
    merge_by VARCHAR,          -- what is masked: task_arithmetic, or ties
    density DOUBLE,
    mask_threshold DOUBLE,
    tasks BIGINT,              -- exactly so many masks
    entries BIGINT,            -- select so many entries
    record VARCHAR
);

CREATE TABLE masks (           -- key: profile, merge_by, density, mask_threshold, task
    profile VARCHAR,
    merge_by VARCHAR,
    density DOUBLE,
    mask_threshold DOUBLE,
    task VARCHAR,
    entries BIGINT,            -- that the task's mask selects
    record VARCHAR
);

CREATE TABLE storage (         -- key: cell, part
    cell VARCHAR,
    part VARCHAR,              -- model: of a single one; experts, frozen: of one expert,
                               -- its own numbers, and those that all share; pretrained,
                               -- task_vector, masks, numbers, factors: of compressed ones
    bits DOUBLE,               -- by App. C of the TALL-masks paper, a number taking 32
    bytes DOUBLE,              -- as stored; task vectors, masks and numbers are coded
    record VARCHAR
);

CREATE TABLE paper_results (   -- key: paper, source_table, suite, model, task, method,
    paper VARCHAR,             --      setting, metric, role
    source_table VARCHAR,
    suite VARCHAR,             -- the paper's, not ours
    model VARCHAR,             -- what its experts started from
    task VARCHAR,              -- by our name; NULL for the mean over tasks
    method VARCHAR,            -- by our name
    setting VARCHAR,           -- main, or such as experts=4
    metric VARCHAR,
    role VARCHAR,
    value DOUBLE,
    note VARCHAR               -- what is known to be wrong with it, or odd
);

-- 0.0833 for 0.08333333333333333, and other values as they are.
CREATE MACRO short(value) AS
    coalesce(format('{:.3g}', TRY_CAST(value AS DOUBLE)), value);

-- 'density 0.2, scale 0.5' for {"density": 0.2, "scale": 0.5}.
CREATE MACRO readable(options) AS
    array_to_string(
        list_transform(
            json_keys(options),
            LAMBDA name: concat(name, ' ', short(options ->> name))
        ),
        ', '
    );

-- Was a method with these options adapted to the inputs that it is scored on?
CREATE MACRO is_transductive(options) AS
    coalesce(options ->> 'split' = 'test', false);

-- Two-sided p-value of Pearson's r from n pairs, if they were independent and normal.
-- Without correlation, asin(r) has a density proportional to cos(x) ** (n - 3).
CREATE MACRO pearson_p(r, n) AS
    CASE WHEN n >= 3 THEN least(1.0,
        list_sum(list_transform(range(200), LAMBDA i:
            pow(cos(asin(least(abs(r), 1))
                + (pi() / 2 - asin(least(abs(r), 1))) * (i + 0.5) / 200), n - 3)))
            * (1 - asin(least(abs(r), 1)) / (pi() / 2))
        / list_sum(list_transform(range(200), LAMBDA i:
            pow(cos(pi() / 2 * (i + 0.5) / 200), n - 3))))
    END;
