-- What payment_type means: how the passenger paid.
SELECT DISTINCT ON (payment_type)
    payment_type,
    payment
FROM (VALUES {payment_type}) AS code (payment_type, payment)
