"""What is asked: nyc-taxi-data's analyses, the course's homework, and what one looks up."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Question:
    """One question, in two ways: to our views, and to a table of TLC's columns called `{trips}`."""

    name: str
    ours: str
    plain: str
    by_time: bool = False
    """Whether it is about a day or a month, and so is to be answered at least five times as fast."""


_DAY = "{} >= '2021-05-12' AND {} < '2021-05-13'"
_WEEK = "{} >= '2021-05-10' AND {} < '2021-05-17'"
_MONTH = "{} >= '2021-05-01' AND {} < '2021-06-01'"


def _ours(when: str) -> str:
    return when.format(*["pickup_datetime"] * 2)


def _plain(when: str) -> str:
    return when.format(*["tpep_pickup_datetime"] * 2)


_PICKUP_ZONE = 'JOIN {zones} AS pickup ON pickup."LocationID" = trip."PULocationID"'
_DROPOFF_ZONE = 'JOIN {zones} AS dropoff ON dropoff."LocationID" = trip."DOLocationID"'

QUESTIONS = (
    Question(
        "a day's trips and takings",
        f"SELECT count(*), sum(total_amount) FROM trips WHERE {_ours(_DAY)}",
        f"SELECT count(*), sum(total_amount) FROM {{trips}} WHERE {_plain(_DAY)}",
        by_time=True,
    ),
    Question(
        "a day by the hour",
        f"""SELECT date_trunc('hour', pickup_datetime), count(*), avg(duration_minutes)
        FROM trips WHERE {_ours(_DAY)} GROUP BY 1 ORDER BY 1""",
        f"""SELECT date_trunc('hour', tpep_pickup_datetime), count(*),
            avg(extract(epoch FROM tpep_dropoff_datetime - tpep_pickup_datetime) / 60)
        FROM {{trips}} WHERE {_plain(_DAY)} GROUP BY 1 ORDER BY 1""",
        by_time=True,
    ),
    Question(
        "a day's ten longest trips, by zone",
        f"""SELECT trip_distance, pickup_zone, dropoff_zone, total_amount
        FROM trips WHERE {_ours(_DAY)} ORDER BY 1 DESC, 4 DESC, 2, 3 LIMIT 10""",
        f"""SELECT trip_distance, pickup."Zone", dropoff."Zone", total_amount
        FROM {{trips}} AS trip {_PICKUP_ZONE} {_DROPOFF_ZONE}
        WHERE {_plain(_DAY)} ORDER BY 1 DESC, 4 DESC, 2, 3 LIMIT 10""",
        by_time=True,
    ),
    Question(
        "a week's ten busiest zones",
        f"""SELECT pickup_zone, count(*) FROM trips WHERE {_ours(_WEEK)}
        GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 10""",
        f"""SELECT pickup."Zone", count(*) FROM {{trips}} AS trip {_PICKUP_ZONE} WHERE {_plain(_WEEK)}
        GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 10""",
        by_time=True,
    ),
    Question(
        "a month's tips by way of payment",
        f"""SELECT payment_type, count(*), sum(tip_amount) / sum(fare_amount) FROM trips
        WHERE {_ours(_MONTH)} GROUP BY 1 ORDER BY 1""",
        f"""SELECT payment_type, count(*), sum(tip_amount) / sum(fare_amount) FROM {{trips}}
        WHERE {_plain(_MONTH)} GROUP BY 1 ORDER BY 1""",
        by_time=True,
    ),
    Question(
        "how many trips each month has",
        "SELECT month, trips FROM loaded_months ORDER BY 1",
        """SELECT substr(date_trunc('month', tpep_pickup_datetime)::text, 1, 7), count(*)
        FROM {trips} GROUP BY 1 ORDER BY 1""",
    ),
    Question(
        "takings by month and zone (the course's fct_monthly_zone_revenue)",
        "SELECT month, pickup_zone, total_amount FROM zone_revenue_monthly ORDER BY 1, 2",
        f"""SELECT date_trunc('month', tpep_pickup_datetime)::date, pickup."Zone", sum(total_amount)
        FROM {{trips}} AS trip {_PICKUP_ZONE} GROUP BY 1, 2 ORDER BY 1, 2""",
    ),
    Question(
        "ten pairs of zones on Friday evenings",
        """SELECT pickup_zone, dropoff_zone, count(*) FROM trips
        WHERE extract(isodow FROM pickup_datetime) = 5 AND extract(hour FROM pickup_datetime) >= 18
        GROUP BY 1, 2 ORDER BY 3 DESC, 1, 2 LIMIT 10""",
        f"""SELECT pickup."Zone", dropoff."Zone", count(*)
        FROM {{trips}} AS trip {_PICKUP_ZONE} {_DROPOFF_ZONE}
        WHERE extract(isodow FROM tpep_pickup_datetime) = 5
          AND extract(hour FROM tpep_pickup_datetime) >= 18
        GROUP BY 1, 2 ORDER BY 3 DESC, 1, 2 LIMIT 10""",
    ),
    Question(
        "rides to JFK by the hour of the day",
        """SELECT extract(hour FROM pickup_datetime)::int, count(*), avg(duration_minutes) FROM trips
        WHERE dropoff_location_id = 132 GROUP BY 1 ORDER BY 1""",
        """SELECT extract(hour FROM tpep_pickup_datetime)::int, count(*),
            avg(extract(epoch FROM tpep_dropoff_datetime - tpep_pickup_datetime) / 60)
        FROM {trips} WHERE "DOLocationID" = 132 GROUP BY 1 ORDER BY 1""",
    ),
    Question(
        "the largest tip of each day",
        "SELECT pickup_datetime::date, max(tip_amount) FROM trips GROUP BY 1 ORDER BY 1",
        "SELECT tpep_pickup_datetime::date, max(tip_amount) FROM {trips} GROUP BY 1 ORDER BY 1",
    ),
)
