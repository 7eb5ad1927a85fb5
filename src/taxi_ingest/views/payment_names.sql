-- What payment_type_name means, which yellow files of 2009 to 2014 have in the place of payment_type.
SELECT DISTINCT ON (name.payment_type_name)
    name.payment_type_name,
    name.payment_type,
    coalesce(code.payment, name.meaning) AS payment
FROM (VALUES {payment_type_name}) AS name (payment_type_name, payment_type, meaning)
LEFT JOIN {schema}.payment_types AS code ON code.payment_type = name.payment_type
